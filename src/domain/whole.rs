//! Whole numbers as JSON has them: `60.0` is one as well as `60`, and what some clients write for it.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

/// Up to here every whole number has a floating-point number of its own.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// For `#[serde(deserialize_with)]` on a field that has to be there.
pub fn required<'de, D: Deserializer<'de>, T: TryFrom<u64>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Whole::deserialize(deserializer).map(|Whole(number)| number)
}

/// The same on one that may be left out or null.
pub fn optional<'de, D: Deserializer<'de>, T: TryFrom<u64>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Ok(Option::<Whole<T>>::deserialize(deserializer)?.map(|Whole(number)| number))
}

struct Whole<T>(T);

impl<'de, T: TryFrom<u64>> Deserialize<'de> for Whole<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader(PhantomData)).map(Self)
    }
}

struct Reader<T>(PhantomData<T>);

impl<T: TryFrom<u64>> Visitor<'_> for Reader<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number that is not negative and not too large")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        T::try_from(number)
            .map_err(|_too_large| E::invalid_value(Unexpected::Unsigned(number), &self))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_negative) => Err(E::invalid_value(Unexpected::Signed(number), &self)),
        }
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        if number.fract() == 0.0 && (0.0..=EXACT).contains(&number) {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "whole, and within 0..=2^53"
            )]
            return self.visit_u64(number as u64);
        }
        Err(E::invalid_value(Unexpected::Float(number), &self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Body {
        #[serde(deserialize_with = "required")]
        must: u64,
        #[serde(default, deserialize_with = "optional")]
        may: Option<u32>,
    }

    #[test]
    fn whole_numbers_are_taken_however_they_are_written_and_others_are_not() {
        for (text, must, may) in [
            (r#"{"must":60}"#, 60, None),
            (r#"{"must":60.0,"may":null}"#, 60, None),
            (r#"{"must":6e1,"may":1.0}"#, 60, Some(1)),
        ] {
            let body: Body = serde_json::from_str(text).unwrap();
            assert_eq!((body.must, body.may), (must, may), "{text}");
        }
        for text in [
            r#"{"must":1.5}"#,
            r#"{"must":-1}"#,
            r#"{"must":-1.0}"#,
            r#"{"must":1e300}"#,
            r#"{"must":"1"}"#,
            r#"{"must":1,"may":4294967296}"#,
            "{}",
        ] {
            assert!(serde_json::from_str::<Body>(text).is_err(), "{text}");
        }
    }
}
