//! Sizes (`512MB`, `1G`; binary multiples) and spans of time (`500ms`, `1h`).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A quantity that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadQuantity {
    /// Not a size.
    #[error("invalid size '{0}': write a whole number and a unit, such as 512MB or 1GB")]
    Size(String),
    /// Not a span of time.
    #[error("invalid duration '{0}': write a whole number and a unit, such as 500ms, 3s, 5m or 1h")]
    Span(String),
    /// A size with more bytes than can be counted.
    #[error("invalid size '{0}': it is too large")]
    LargeSize(String),
    /// A span of time with more milliseconds than can be counted.
    #[error("invalid duration '{0}': it is too large")]
    LargeSpan(String),
}

/// An amount of memory or disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size(u64);

impl Size {
    /// So many bytes.
    pub const fn bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// So many mebibytes.
    pub const fn mib(mib: u64) -> Self {
        Self(mib << 20)
    }

    /// The amount in bytes.
    pub const fn as_bytes(self) -> u64 {
        self.0
    }

    /// The amount in whole mebibytes, rounded down.
    pub const fn as_mib(self) -> u64 {
        self.0 >> 20
    }
}

/// Splits `12ab` into `12` and `ab`; nothing where there are no digits. The
/// number is missing where it is too large.
fn split(text: &str) -> Option<(Option<u64>, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (end > 0).then(|| (number.parse().ok(), unit))
}

/// As much of a wrong quantity as fits a sentence.
fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

impl FromStr for Size {
    type Err = BadQuantity;

    fn from_str(text: &str) -> Result<Self, BadQuantity> {
        let bad = || BadQuantity::Size(shown(text));
        let (number, unit) = split(text).ok_or_else(bad)?;
        let shift = match unit.to_ascii_uppercase().as_str() {
            "K" | "KB" | "KIB" => 10,
            "M" | "MB" | "MIB" => 20,
            "G" | "GB" | "GIB" => 30,
            "T" | "TB" | "TIB" => 40,
            "B" => 0,
            _ => return Err(bad()),
        };
        let bytes = number.and_then(|number| number.checked_mul(1 << shift));
        bytes.map(Self).ok_or_else(|| BadQuantity::LargeSize(shown(text)))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(40, "TB"), (30, "GB"), (20, "MB"), (10, "KB")];
        let fits = |&&(shift, _): &&(u32, &str)| self.0 > 0 && self.0.trailing_zeros() >= shift;
        match units.iter().find(fits) {
            Some((shift, unit)) => write!(f, "{}{unit}", self.0 >> shift),
            None => write!(f, "{}B", self.0),
        }
    }
}

/// A span of time, to the millisecond.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Span(u64);

impl Span {
    /// So many milliseconds.
    pub const fn millis(millis: u64) -> Self {
        Self(millis)
    }

    /// So many seconds.
    pub const fn secs(secs: u64) -> Self {
        Self(secs * 1000)
    }

    /// The span in milliseconds.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The span as the standard library has it.
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl FromStr for Span {
    type Err = BadQuantity;

    fn from_str(text: &str) -> Result<Self, BadQuantity> {
        let bad = || BadQuantity::Span(shown(text));
        let (number, unit) = split(text).ok_or_else(bad)?;
        let factor = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "" if number == Some(0) => 0,
            _ => return Err(bad()),
        };
        let ms = number.and_then(|number| number.checked_mul(factor));
        ms.map(Self).ok_or_else(|| BadQuantity::LargeSpan(shown(text)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ms if ms > 0 && ms % 3_600_000 == 0 => write!(f, "{}h", ms / 3_600_000),
            ms if ms > 0 && ms % 60_000 == 0 => write!(f, "{}m", ms / 60_000),
            ms if ms % 1000 == 0 => write!(f, "{}s", ms / 1000),
            ms => write!(f, "{ms}ms"),
        }
    }
}

/// Reading from and writing to text for serde, by way of the text forms above.
macro_rules! text_form {
    ($($kind:ty),*) => {$(
        impl TryFrom<String> for $kind {
            type Error = BadQuantity;

            fn try_from(text: String) -> Result<Self, BadQuantity> {
                text.parse()
            }
        }

        impl From<$kind> for String {
            fn from(value: $kind) -> Self {
                value.to_string()
            }
        }
    )*};
}
text_form!(Size, Span);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_binary_multiples() {
        for (text, bytes) in [("512MB", 512 << 20), ("1GB", 1 << 30), ("2G", 2 << 30), ("7b", 7)] {
            assert_eq!(text.parse::<Size>().unwrap().as_bytes(), bytes, "{text}");
        }
        for bad in ["", "1", "GB", "-1GB", "1.5GB", "1 GB", "1XB", "99999999999999999999"] {
            assert_eq!(bad.parse::<Size>(), Err(BadQuantity::Size(bad.into())));
        }
        for large in ["99999999999999999999G", "9999999999T"] {
            assert_eq!(large.parse::<Size>(), Err(BadQuantity::LargeSize(large.into())));
        }
    }

    #[test]
    fn spans_have_units() {
        for (text, ms) in
            [("500ms", 500), ("3s", 3000), ("5m", 300_000), ("1h", 3_600_000), ("0", 0)]
        {
            assert_eq!(text.parse::<Span>().unwrap().as_millis(), ms, "{text}");
        }
        for bad in ["", "3", "s", "-3s", "1d", "3 s", "99999999999999999999d"] {
            assert_eq!(bad.parse::<Span>(), Err(BadQuantity::Span(bad.into())));
        }
        for large in ["9999999999999h", "99999999999999999999ms"] {
            assert_eq!(large.parse::<Span>(), Err(BadQuantity::LargeSpan(large.into())));
        }
    }

    proptest! {
        #[test]
        fn text_forms_round_trip(value in any::<u64>()) {
            prop_assert_eq!(Size(value).to_string().parse(), Ok(Size(value)));
            prop_assert_eq!(Span(value).to_string().parse(), Ok(Span(value)));
        }

        #[test]
        fn any_text_is_read_without_panic(text in ".{0,40}") {
            let _ = text.parse::<Size>();
            let _ = text.parse::<Span>();
            let _ = text.parse::<crate::Name>();
        }
    }
}
