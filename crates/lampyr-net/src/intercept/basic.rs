//! `Basic` credentials: a user and a password in base64 (RFC 7617), as `curl
//! -u` and git make them of an address.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use crate::secret::Secret;

const SCHEME: &str = "Basic";
/// Some leave the padding out.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);

/// The credentials with a secret's value where its placeholder is; `None`
/// where there is none. They are no longer than before, but for padding: a
/// placeholder is as long as its value, or longer.
pub(super) fn put(field: &str, secret: &Secret) -> Option<String> {
    let (scheme, encoded) = field.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return None;
    }
    let inside = BASE64.decode(encoded.trim_matches(' ')).ok()?;
    let told = replaced(&inside, secret.placeholder().as_bytes(), secret.value().as_bytes())?;
    Some(format!("{SCHEME} {}", BASE64.encode(told)))
}

/// What else is inside need not be text.
fn replaced(bytes: &[u8], placeholder: &[u8], value: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (mut rest, mut told) = (bytes, Zeroizing::new(Vec::with_capacity(bytes.len())));
    while let Some(at) = rest.windows(placeholder.len()).position(|part| part == placeholder) {
        told.extend_from_slice(&rest[..at]);
        told.extend_from_slice(value);
        rest = &rest[at + placeholder.len()..];
    }
    told.extend_from_slice(rest);
    (rest.len() < bytes.len()).then_some(told)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::Domain;

    fn secret(value: &str) -> Secret {
        let host = Domain::parse("a.example.com").unwrap();
        Secret::new("TOKEN", host, "authorization", Zeroizing::new(value.to_owned())).unwrap()
    }

    fn basic(inside: impl AsRef<[u8]>) -> String {
        format!("Basic {}", BASE64.encode(inside))
    }

    #[test]
    fn only_what_is_basic_and_base64_is_looked_into() {
        let secret = secret("the-real-value");
        let held = basic(format!("x:{}", secret.placeholder()));
        let (expected, encoded) = (Some(basic("x:the-real-value")), held.split_at(6).1);
        for good in [&held, &format!("bAsIc   {encoded}"), &held.replace('=', "")] {
            assert_eq!(put(good, &secret), expected, "{good}");
        }
        let bearer = format!("Bearer {encoded}");
        let odd = ["", "Basic", "Basic ", "Basic !", encoded, &bearer, &basic("x:y")];
        for other in odd.iter().chain([&format!("{held}, {held}").as_str()]) {
            assert_eq!(put(other, &secret), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn a_value_is_put_in_wherever_it_stands(
            before in prop::collection::vec(any::<u8>(), 0..40),
            value in "[!-~]{8,80}",
            after in prop::collection::vec(any::<u8>(), 0..40),
            times in 1_usize..4,
        ) {
            let secret = secret(&value);
            let around = |middle: &str| basic([&before, middle.as_bytes(), &after].concat().repeat(times));
            let told = put(&around(secret.placeholder()), &secret);
            prop_assert_eq!(&told, &Some(around(&value)));
            prop_assert!(told.unwrap().len() <= around(secret.placeholder()).len());
        }
    }
}
