//! Colours and marks, the same for a subject in every chart.

use plotters::style::RGBColor;

/// How a series is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Look {
    pub(super) colour: RGBColor,
    pub(super) width: u32,
    pub(super) dashed: bool,
    pub(super) mark: Mark,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Mark {
    Circle,
    Square,
    Triangle,
    Cross,
    None,
}

/// Colours that people with any kind of colour blindness can tell apart (Okabe and Ito),
/// but for the yellow, which white swallows.
const BLUE: RGBColor = RGBColor(0, 114, 178);
const VERMILLION: RGBColor = RGBColor(213, 94, 0);
const GREEN: RGBColor = RGBColor(0, 158, 115);
const PURPLE: RGBColor = RGBColor(204, 121, 167);
const SKY: RGBColor = RGBColor(86, 180, 233);
const ORANGE: RGBColor = RGBColor(230, 159, 0);
const GREY: RGBColor = RGBColor(120, 120, 120);
const BLACK: RGBColor = RGBColor(0, 0, 0);

const OTHERS: [RGBColor; 5] = [GREEN, PURPLE, SKY, ORANGE, GREY];
const MARKS: [Mark; 4] = [Mark::Circle, Mark::Square, Mark::Triangle, Mark::Cross];

impl Look {
    /// The raw cipher.
    pub(crate) const RAW: Self = Self { colour: BLACK, width: 2, dashed: true, mark: Mark::None };

    /// What stands back behind the others.
    pub(crate) const PLAIN: Self = Self { colour: GREY, width: 1, dashed: false, mark: Mark::None };

    /// An operation of ours, the `index`th of its subject.
    fn ours(subject: &str, index: usize) -> Self {
        let colour = if subject.contains("core") { BLUE } else { VERMILLION };
        Self { colour, width: 3, dashed: false, mark: MARKS[index % MARKS.len()] }
    }

    /// Somebody else's, the `index`th of them.
    fn other(index: usize) -> Self {
        let (colour, mark) = (index % OTHERS.len(), index / OTHERS.len() + index);
        Self { colour: OTHERS[colour], width: 1, dashed: false, mark: MARKS[mark % MARKS.len()] }
    }
}

/// Looks for series of these subjects.
pub(crate) fn looks<'a>(subjects: impl IntoIterator<Item = &'a str>) -> Vec<Look> {
    let (mut core, mut manager, mut others) = (0, 0, 0);
    let next = |count: &mut usize| {
        *count += 1;
        *count - 1
    };
    subjects
        .into_iter()
        .map(|subject| match subject {
            _ if subject.starts_with("raw") => Look::RAW,
            "bulla-core" => Look::ours(subject, next(&mut core)),
            _ if subject.starts_with("bulla") => Look::ours(subject, next(&mut manager)),
            _ => Look::other(next(&mut others)),
        })
        .collect()
}
