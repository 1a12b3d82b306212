//! Where a guest finds whom to trust besides those that its image trusts.

/// The authority of this sandbox alone, as PEM.
pub const AUTHORITY: &str = "/run/lampyr/authority.crt";
/// The authorities that the image trusts, and this one.
pub const BUNDLE: &str = "/run/lampyr/ca-certificates.crt";
