//! Charts in SVG: lines over an axis, and bars.

mod axis;
mod bars;
mod lines;
mod look;

pub(crate) use self::axis::Axis;
pub(crate) use self::bars::{Bars, Group};
pub(crate) use self::lines::{Lines, Series};
pub(crate) use self::look::{Look, looks};

use std::fmt;

use plotters::prelude::{IntoFont, RGBColor};
use plotters::style::TextStyle;

/// Text and axes.
const INK: RGBColor = RGBColor(51, 51, 51);
const GRID: RGBColor = RGBColor(224, 224, 224);

/// Width of a character in relation to its height, about: SVG has no fonts to ask.
const CHARACTER: f64 = 0.56;

fn text(size: i32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

fn width(text: &str, size: i32) -> i32 {
    (text.chars().count() as f64 * f64::from(size) * CHARACTER) as i32
}

/// Errors of plotters borrow what they speak of.
fn failed(error: impl fmt::Display) -> anyhow::Error {
    anyhow::anyhow!("drawing: {error}")
}
