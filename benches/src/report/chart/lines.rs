//! Lines over an axis, each named at its end.

use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::Shift;
use plotters::coord::ranged1d::ValueFormatter;
use plotters::prelude::{
    Cartesian2d, Circle, Color, Cross, DashedLineSeries, DrawingArea, IntoDrawingArea,
    IntoDynElement, LineSeries, PathElement, Rectangle, SVGBackend, TRANSPARENT, Text,
    TriangleMarker, WHITE,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::look::{Look, Mark};
use super::{Axis, GRID, INK, failed, text, width};

/// A chart of lines.
pub(crate) struct Lines {
    pub(crate) title: String,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) series: Vec<Series>,
}

pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) look: Look,
    pub(crate) points: Vec<(f64, f64)>,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>;

const WIDTH: u32 = 860;
const TITLE: i32 = 17;
const SMALL: i32 = 13;
/// Rows of text need this much.
const ROW: i32 = 16;
/// From the end of the axis to the mark beside a name, and from there to the name.
const LEADER: i32 = 30;
const MARK: i32 = 12;

impl Lines {
    /// The chart, or nothing where there are no points.
    pub(crate) fn svg(&self) -> anyhow::Result<Option<String>> {
        if self.series.iter().all(|series| series.points.is_empty()) {
            return Ok(None);
        }
        let height = 420.max(220 + ROW * self.series.len() as i32);
        let mut svg = String::new();
        self.draw(&SVGBackend::with_string(&mut svg, (WIDTH, height as u32)).into_drawing_area())?;
        Ok(Some(svg))
    }

    fn draw(&self, area: &Area<'_>) -> anyhow::Result<()> {
        area.fill(&WHITE).map_err(failed)?;
        let put = |words: &str, size, x, y, pos| {
            area.draw(&Text::new(words.to_owned(), (x, y), text(size).pos(pos))).map_err(failed)
        };
        let left = Pos::new(HPos::Left, VPos::Top);
        put(&self.title, TITLE, 16, 12, left)?;
        put(&self.y.name, SMALL, 16, 38, left)?;

        let names = self.series.iter().map(|series| width(&series.name, SMALL)).max();
        let mut builder = ChartBuilder::on(area);
        builder
            .margin_top(62)
            .margin_left(12)
            .margin_right(names.unwrap_or(0) + LEADER + MARK + 10)
            .margin_bottom(30)
            .x_label_area_size(28)
            .y_label_area_size(64);
        let mut chart =
            builder.build_cartesian_2d(self.x.clone(), self.y.clone()).map_err(failed)?;
        chart
            .configure_mesh()
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .axis_style(INK)
            .label_style(text(SMALL))
            .x_label_formatter(&|value| self.x.format_ext(value))
            .y_label_formatter(&|value| self.y.format_ext(value))
            .draw()
            .map_err(failed)?;
        let (across, down) = chart.plotting_area().get_pixel_range();
        let middle = (across.start + across.end) / 2;
        put(&self.x.name, SMALL, middle, down.end + 36, Pos::new(HPos::Center, VPos::Top))?;

        for series in &self.series {
            self.line(series, area, &mut chart)?;
        }
        self.names(area, &chart)
    }

    fn line(
        &self,
        series: &Series,
        area: &Area<'_>,
        chart: &mut Chart<'_, '_>,
    ) -> anyhow::Result<()> {
        let points = || series.points.iter().copied();
        let Look { colour, width, dashed, .. } = series.look;
        let line = colour.stroke_width(width);
        if dashed {
            let points = points().collect::<Vec<_>>();
            chart.draw_series(DashedLineSeries::new(points, 7, 5, line)).map_err(failed)?;
        } else {
            chart.draw_series(LineSeries::new(points(), line)).map_err(failed)?;
        }
        for point in points() {
            draw_mark(area, chart.backend_coord(&point), series.look)?;
        }
        Ok(())
    }

    /// Writes the name of each line to the right of its end, none over another.
    fn names(&self, area: &Area<'_>, chart: &Chart<'_, '_>) -> anyhow::Result<()> {
        let (across, down) = chart.plotting_area().get_pixel_range();
        let mut ends: Vec<_> = self
            .series
            .iter()
            .filter_map(|series| {
                let last = series.points.last()?;
                Some((chart.backend_coord(last), series))
            })
            .collect();
        ends.sort_by_key(|((_, y), _)| *y);
        let ys: Vec<i32> = ends.iter().map(|((_, y), _)| *y).collect();
        for (((x, y), series), place) in ends.into_iter().zip(apart(&ys, down.end)) {
            let mark = (across.end + LEADER, place);
            let leader = vec![(x + 6, y), (across.end + 6, y), (mark.0 - 6, place), mark];
            let colour = series.look.colour;
            area.draw(&PathElement::new(leader, colour.mix(0.6))).map_err(failed)?;
            draw_mark(area, mark, series.look)?;
            let style = text(SMALL).pos(Pos::new(HPos::Left, VPos::Center));
            let name = Text::new(series.name.clone(), (mark.0 + MARK, place), style);
            area.draw(&name).map_err(failed)?;
        }
        Ok(())
    }
}

fn draw_mark(area: &Area<'_>, at: (i32, i32), look: Look) -> anyhow::Result<()> {
    let Look { colour, width, mark, .. } = look;
    let size = 3 + width as i32 / 2;
    let corners = [(at.0 - size, at.1 - size), (at.0 + size, at.1 + size)];
    let element = match mark {
        Mark::None => return Ok(()),
        Mark::Circle => Circle::new(at, size, colour.filled()).into_dyn(),
        Mark::Square => Rectangle::new(corners, colour.filled()).into_dyn(),
        Mark::Triangle => TriangleMarker::new(at, size + 2, colour.filled()).into_dyn(),
        Mark::Cross => Cross::new(at, size, colour.stroke_width(2)).into_dyn(),
    };
    area.draw(&element).map_err(failed)
}

/// Moves rows of text, given from top to bottom, as far apart as they need, as little as
/// possible, and not below `bottom`.
fn apart(rows: &[i32], bottom: i32) -> Vec<i32> {
    // Rows that touch, as where their block begins, and how many they are.
    let mut blocks: Vec<(i32, i32)> = Vec::new();
    for row in rows {
        let mut block = (*row, 1);
        while let Some(above) = blocks.pop_if(|above| above.0 + above.1 * ROW > block.0) {
            // What both would like, as if each row had the place of the first.
            let wanted = above.0 * above.1 + (block.0 - above.1 * ROW) * block.1;
            let count = above.1 + block.1;
            block = (wanted / count, count);
        }
        block.0 = block.0.min(bottom - (block.1 - 1) * ROW);
        blocks.push(block);
    }
    blocks.iter().flat_map(|(top, count)| (0..*count).map(move |row| top + row * ROW)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_cover_each_other() {
        assert_eq!(apart(&[10, 100, 200], 300), [10, 100, 200]);
        assert_eq!(apart(&[100, 100, 200], 300), [92, 108, 200]);
        assert_eq!(apart(&[290, 295, 300], 300), [268, 284, 300]);
    }
}
