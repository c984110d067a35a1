//! Bars from left to right, in groups, with what they stand for written beside them.

use plotters::coord::Shift;
use plotters::prelude::{Color, DrawingArea, IntoDrawingArea, Rectangle, SVGBackend, Text, WHITE};
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::look::Look;
use super::{failed, text, width};

/// A chart of bars.
pub(crate) struct Bars {
    pub(crate) title: String,
    /// What the lengths are, with the unit.
    pub(crate) name: String,
    /// What each bar of a group is. One needs no legend.
    pub(crate) parts: Vec<(String, Look)>,
    pub(crate) groups: Vec<Group>,
    /// Lengths are by the logarithm of the value plus one.
    pub(crate) logarithmic: bool,
}

/// Bars that belong together.
pub(crate) struct Group {
    pub(crate) name: String,
    /// One for each part, and its text.
    pub(crate) values: Vec<Option<(f64, String)>>,
    /// Drawn in this look; in that of the part if there is none.
    pub(crate) look: Option<Look>,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const WIDTH: i32 = 860;
const TITLE: i32 = 17;
const SMALL: i32 = 13;
const TOP: i32 = 64;
const BAR: i32 = 15;
const GAP: i32 = 8;

impl Bars {
    /// The chart, or nothing where there are no bars.
    pub(crate) fn svg(&self) -> anyhow::Result<Option<String>> {
        if self.groups.iter().all(|group| group.values.iter().all(Option::is_none)) {
            return Ok(None);
        }
        let height = self.top() + self.groups.len() as i32 * self.group_height() + 16;
        let mut svg = String::new();
        let size = (WIDTH as u32, height as u32);
        self.draw(&SVGBackend::with_string(&mut svg, size).into_drawing_area())?;
        Ok(Some(svg))
    }

    fn draw(&self, area: &Area<'_>) -> anyhow::Result<()> {
        area.fill(&WHITE).map_err(failed)?;
        let put = |words: &str, size, x, y, pos| {
            area.draw(&Text::new(words.to_owned(), (x, y), text(size).pos(pos))).map_err(failed)
        };
        let bar = |x, y, length: i32, look: Look| {
            let corners = [(x, y), (x + length.max(1), y + BAR - 2)];
            area.draw(&Rectangle::new(corners, look.colour.filled())).map_err(failed)
        };
        let left = Pos::new(HPos::Left, VPos::Top);
        let beside = Pos::new(HPos::Left, VPos::Center);
        put(&self.title, TITLE, 16, 12, left)?;
        put(&self.name, SMALL, 16, 38, left)?;
        if self.parts.len() > 1 {
            let mut x = 16;
            for (name, look) in &self.parts {
                bar(x, TOP, BAR, *look)?;
                put(name, SMALL, x + BAR + 6, TOP + BAR / 2, beside)?;
                x += BAR + 30 + width(name, SMALL);
            }
        }

        let names = self.groups.iter().map(|group| width(&group.name, SMALL)).max().unwrap_or(0);
        let values = || self.groups.iter().flat_map(|group| group.values.iter().flatten());
        let texts = values().map(|(_, text)| width(text, SMALL)).max().unwrap_or(0);
        let start = 16 + names + 12;
        let most = values().map(|(value, _)| self.length(*value)).fold(0.0, f64::max);
        let room = f64::from(WIDTH - start - texts - 24);
        for (index, group) in self.groups.iter().enumerate() {
            let top = self.top() + index as i32 * self.group_height();
            let middle = top + (self.group_height() - GAP) / 2;
            put(&group.name, SMALL, start - 10, middle, Pos::new(HPos::Right, VPos::Center))?;
            for (part, (value, (_, look))) in group.values.iter().zip(&self.parts).enumerate() {
                let y = top + part as i32 * BAR;
                if let Some((value, text)) = value {
                    let share = if most > 0.0 { self.length(*value) / most } else { 0.0 };
                    let length = (share * room) as i32;
                    bar(start, y, length, group.look.unwrap_or(*look))?;
                    put(text, SMALL, start + length + 6, y + BAR / 2, beside)?;
                }
            }
        }
        Ok(())
    }

    fn length(&self, value: f64) -> f64 {
        if self.logarithmic { value.max(0.0).ln_1p() } else { value.max(0.0) }
    }

    fn top(&self) -> i32 {
        TOP + if self.parts.len() > 1 { BAR + GAP + 4 } else { 0 }
    }

    fn group_height(&self) -> i32 {
        self.parts.len() as i32 * BAR + GAP
    }
}
