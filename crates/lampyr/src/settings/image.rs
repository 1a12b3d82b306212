//! What images are called on the command line.

use lampyr_image::ImageRef;
use lampyr_oci::Reference;

use crate::bad_input::{BadInput, BadValue};

/// An image as an argument calls it.
pub(crate) fn image(given: &str) -> Result<ImageRef, BadInput> {
    given.parse().map_err(|e: lampyr_image::BadImageRef| BadInput::Image(e.into()))
}

/// An image of a registry's as an argument calls it.
pub(crate) fn reference(given: &str) -> Result<Reference, BadInput> {
    given.parse().map_err(|e: lampyr_oci::OciError| BadInput::Image(BadValue::Image(e.to_string())))
}
