//! Numbers as people read them.

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Three digits or more, and thousands apart.
pub(crate) fn number(value: f64) -> String {
    if value.abs() >= 100.0 {
        let sign = if value < 0.0 { "-" } else { "" };
        return sign.to_owned() + &grouped(value.abs().round() as u64);
    }
    if value == value.round() {
        return format!("{value}");
    }
    if value.abs() < 0.005 {
        return "<0.01".to_owned();
    }
    let decimals = if value.abs() >= 10.0 { 1 } else { 2 };
    format!("{value:.decimals$}")
}

/// A count, which is whole more often than not.
pub(crate) fn count(value: f64) -> String {
    if value.fract() == 0.0 && value >= 0.0 { grouped(value as u64) } else { number(value) }
}

/// `65536` as `64 KiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{} {name}", bytes / unit),
        None => format!("{} B", grouped(bytes)),
    }
}

/// Three digits.
fn precise(value: f64) -> String {
    match value.abs() {
        100.0.. => number(value),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Nanoseconds in the unit that fits, in three digits.
pub(crate) fn time(ns: f64) -> String {
    in_unit(ns, &TIMES, precise)
}

/// Nanoseconds, for the tick of an axis.
pub(crate) fn time_tick(ns: f64) -> String {
    in_unit(ns, &TIMES, number)
}

/// Bytes per second, for the tick of an axis; in powers of ten.
pub(crate) fn rate_tick(bytes_per_second: f64) -> String {
    in_unit(bytes_per_second, &RATES, number)
}

const TIMES: [(f64, &str); 4] = [(1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")];
const RATES: [(f64, &str); 4] = [(1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s"), (1.0, "B/s")];

fn in_unit(value: f64, units: &[(f64, &str); 4], digits: fn(f64) -> String) -> String {
    // Of 999.99 the next unit is the better one.
    let (unit, name) = units.iter().find(|(unit, _)| value >= unit * 0.9995).unwrap_or(&units[3]);
    format!("{} {name}", digits(value / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_at_a_glance() {
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(999), "999");
        assert_eq!(
            [number(0.987), number(12.34), number(1234.5), number(-1500.0), number(3.0)],
            ["0.99", "12.3", "1,235", "-1,500", "3"]
        );
        assert_eq!([number(0.0), number(0.003)], ["0", "<0.01"]);
        assert_eq!([count(0.0), count(1000.0), count(0.25)], ["0", "1,000", "0.25"]);
        assert_eq!(
            [bytes(64), bytes(1024), bytes(1 << 30), bytes(1500)],
            ["64 B", "1 KiB", "1 GiB", "1,500 B"]
        );
        assert_eq!([time(93.0), time(999.96), time(21e6)], ["93.0 ns", "1.00 µs", "21.0 ms"]);
        assert_eq!([time_tick(20e6), rate_tick(10.5e9)], ["20 ms", "10.5 GB/s"]);
    }
}
