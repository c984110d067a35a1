//! Axes: where a value lies, and which values are written beside it.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

use super::super::notation;

/// An axis, linear or logarithmic.
#[derive(Clone)]
pub(crate) struct Axis {
    pub(super) name: String,
    scale: Scale,
    from: f64,
    to: f64,
    /// Values, and what is written there.
    ticks: Vec<(f64, String)>,
}

#[derive(Clone)]
enum Scale {
    Linear,
    /// Zero lies where this value does.
    Log {
        zero: f64,
    },
}

/// Ticks that have room beside each other.
const TICKS_MAX: usize = 9;

impl Axis {
    /// A logarithmic axis with ticks at the values themselves, zero among them.
    pub(crate) fn at(name: &str, values: &[f64], format: impl Fn(f64) -> String) -> Self {
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        values.dedup();
        let least = values.iter().copied().find(|value| *value > 0.0).unwrap_or(1.0);
        let scale = Scale::Log { zero: least / 4.0 };
        let every = values.len().div_ceil(TICKS_MAX).max(1);
        let ticks = values.iter().step_by(every).map(|value| (*value, format(*value))).collect();
        let from = values.first().copied().unwrap_or(1.0);
        let to = values.last().copied().unwrap_or(1.0).max(least * 1.1);
        Self { name: name.to_owned(), scale, from, to, ticks }
    }

    /// A logarithmic axis with ticks at powers of ten, or 1, 2 and 5 times such.
    pub(crate) fn log(name: &str, values: &[f64], format: impl Fn(f64) -> String) -> Self {
        let positive = || values.iter().copied().filter(|value| *value > 0.0);
        let (least, most) = (positive().fold(f64::MAX, f64::min), positive().fold(0.0, f64::max));
        let wide = most / least > 100.0;
        let steps: &[f64] = if wide { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let decades = least.log10().floor() as i32..=most.log10().ceil() as i32;
        let all: Vec<f64> = decades
            .flat_map(|decade| steps.iter().map(move |step| step * 10_f64.powi(decade)))
            .collect();
        let from = all.iter().copied().rfind(|tick| *tick <= least).unwrap_or(least);
        let to = all.iter().copied().find(|tick| *tick >= most).unwrap_or(most);
        let ticks = all.into_iter().filter(|tick| (from..=to).contains(tick));
        Self {
            name: name.to_owned(),
            scale: Scale::Log { zero: from },
            from,
            to: to.max(from * 1.1),
            ticks: ticks.map(|tick| (tick, format(tick))).collect(),
        }
    }

    /// An axis that includes `from` and the values, with ticks at round numbers.
    pub(crate) fn linear(name: &str, from: f64, values: &[f64]) -> Self {
        let most = values.iter().copied().fold(from, f64::max);
        let rough = ((most - from) / 6.0).max(1e-9);
        let decade = 10_f64.powf(rough.log10().floor());
        let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * decade);
        let step = steps.into_iter().find(|step| *step >= rough).unwrap_or(rough);
        let (first, last) = ((from / step).floor() as i32, (most / step).ceil() as i32);
        let tick = |index: i32| f64::from(index) * step;
        let decimals = (-step.log10().floor()).max(0.0) as usize;
        Self {
            name: name.to_owned(),
            scale: Scale::Linear,
            from: tick(first),
            to: tick(last.max(first + 1)),
            ticks: (first..=last)
                .map(|index| (tick(index), format!("{:.decimals$}", tick(index))))
                .collect(),
        }
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (first, last): (i32, i32)) -> i32 {
        let [from, to, here] = [self.from, self.to, *value].map(|value| self.scale.position(value));
        first + ((here - from) / (to - from) * f64::from(last - first)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        // No lines between ticks.
        if hint.weight().allow_light_points() {
            return Vec::new();
        }
        self.ticks.iter().map(|(value, _)| *value).collect()
    }

    fn range(&self) -> Range<f64> {
        self.from..self.to
    }
}

impl ValueFormatter<f64> for Axis {
    fn format(value: &f64) -> String {
        notation::number(*value)
    }

    fn format_ext(&self, value: &f64) -> String {
        let tick = self.ticks.iter().find(|(tick, _)| tick == value);
        tick.map_or_else(String::new, |(_, text)| text.clone())
    }
}

impl Scale {
    fn position(&self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::Log { zero } => value.max(*zero).log10(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, text)| &**text).collect()
    }

    #[test]
    fn ticks_enclose_the_values() {
        let axis = Axis::log("", &[93.0, 100_000.0], notation::number);
        assert_eq!(texts(&axis), ["10", "100", "1,000", "10,000", "100,000"]);
        let axis = Axis::log("", &[30.0, 150.0], notation::number);
        assert_eq!(texts(&axis), ["20", "50", "100", "200"]);
        let axis = Axis::linear("", 0.95, &[1.07, 1.37]);
        assert_eq!(texts(&axis), ["0.9", "1.0", "1.1", "1.2", "1.3", "1.4"]);
    }

    #[test]
    fn zero_has_a_place_on_a_logarithmic_axis() {
        let axis = Axis::at("", &[0.0, 64.0, 4096.0], |value| notation::bytes(value as u64));
        assert_eq!(texts(&axis), ["0 B", "64 B", "4 KiB"]);
        let places = [0.0, 64.0, 4096.0].map(|value| axis.map(&value, (0, 400)));
        assert_eq!(places, [0, 100, 400]);
    }
}
