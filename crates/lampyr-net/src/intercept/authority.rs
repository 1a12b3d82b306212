//! An authority for one sandbox. Its key is never written anywhere and dies
//! with the process.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

use crate::domain::Domain;

/// The one protocol that is spoken.
pub(super) const ALPN: &[u8] = b"http/1.1";
/// A guest's clock may be behind by so much.
const BEHIND: Duration = Duration::from_hours(24);
/// No sandbox lives longer.
const VALID: Duration = Duration::from_hours(24 * 365 * 10);

/// An authority, and a server's side of TLS for the hosts that it speaks for.
pub(super) struct Authority {
    /// Its certificate, for the guest to trust.
    pub(super) pem: String,
    /// How to answer as one of the hosts.
    pub(super) server: Arc<ServerConfig>,
}

impl Authority {
    /// A new one for these hosts.
    pub(super) fn for_hosts<'a>(hosts: impl Iterator<Item = &'a Domain>) -> io::Result<Self> {
        let failed = |e: rcgen::Error| io::Error::other(e);
        let own = of_authority();
        let key = KeyPair::generate().map_err(failed)?;
        let pem = own.self_signed(&key).map_err(failed)?.pem();
        let hosts = of_hosts(hosts.map(Domain::to_string).collect()).map_err(failed)?;
        let host_key = KeyPair::generate().map_err(failed)?;
        let signed = hosts.signed_by(&host_key, &Issuer::new(own, key)).map_err(failed)?;
        let private = PrivatePkcs8KeyDer::from(host_key.serialize_der()).into();
        let mut server = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                builder.with_no_client_auth().with_single_cert(vec![signed.into()], private)
            })
            .map_err(io::Error::other)?;
        server.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self { pem, server: Arc::new(server) })
    }
}

fn of_authority() -> CertificateParams {
    let mut params = for_now(CertificateParams::default());
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, "Lampyr, for this sandbox alone");
    params
}

fn of_hosts(names: Vec<String>) -> Result<CertificateParams, rcgen::Error> {
    let mut params = for_now(CertificateParams::new(names)?);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params.distinguished_name.push(DnType::CommonName, "Lampyr, before a server");
    Ok(params)
}

fn for_now(mut params: CertificateParams) -> CertificateParams {
    let now = SystemTime::now();
    (params.not_before, params.not_after) = ((now - BEHIND).into(), (now + VALID).into());
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
}
