//! Keeps what this process knows out of core files, and out of the sight of
//! other processes of its user.

/// From now on there are no core files of this process, and nobody but root
/// looks into its memory or its environment.
pub(crate) fn conceal() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    // What cannot be forbidden is left as it was.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}
