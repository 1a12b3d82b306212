//! The Rust SDK, with all of its examples.

use crate::command::run;
use crate::failure::Result;
use crate::test::runner;
use crate::workspace;

/// The SDK.
pub(crate) const SDK: &str = "lampyr-sdk";
/// The examples of its README and its documentation, as tests.
const EXAMPLES: &str = "lampyr-sdk-examples";
/// What is tested here, and not with the rest of the workspace.
pub(crate) const PACKAGES: [&str; 2] = [SDK, EXAMPLES];

/// Tries it on the release build, and compiles its documentation.
pub(crate) fn test() -> Result<()> {
    run(runner()
        .args(["--package", SDK, "--package", EXAMPLES])
        .env("LAMPYR_E2E_SKIPPED", workspace::skipped())
        .env("LAMPYR_BIN", workspace::lampyr())
        .env("LAMPYR_HOME", workspace::test_home()))?;
    run(workspace::cargo().args(["test", "--quiet", "--doc", "--package", SDK]))
}
