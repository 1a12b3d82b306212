//! Images of the distribution's own packages, for tests: made once.

use std::path::PathBuf;
use std::time::Duration;

use crate::apt::cached;
use crate::command::{bounded, run, say};
use crate::failure::Result;
use crate::{packages, workspace};

/// A change of the script wants a new name.
const FOLDER: &str = "test-images-2";
const LIMIT: Duration = Duration::from_mins(20);

/// Where they are, for the variable `LAMPYR_TEST_IMAGES`.
pub(crate) fn folder() -> PathBuf {
    workspace::target().join(FOLDER)
}

/// The images that all tests share.
pub(crate) fn usual() -> Result<()> {
    make("usual")
}

/// The one that pulls are measured with.
pub(crate) fn large() -> Result<()> {
    make("large")
}

/// An OCI layout with images, made where it is missing.
fn make(name: &str) -> Result<()> {
    packages::ensure(packages::IMAGE)?;
    packages::ensure(packages::REGISTRY)?;
    cached(&folder().join(name), |new| {
        say(&format!("Making images for tests: {name}"));
        let script = workspace::root().join("tests/registry/images.sh");
        run(bounded(LIMIT, "sh").arg(script).arg(new).arg(name))
    })
}
