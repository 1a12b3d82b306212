//! How registries are spoken to.

use std::collections::BTreeMap;
use std::path::Path;

use lampyr_image::Registries;
use lampyr_oci::{Credentials, Settings};
use lampyr_types::Size;

use crate::bad_input::{BadInput, BadValue};
use crate::env_vars;

use super::{Layers, parse, shown};

type Mirrors = BTreeMap<String, Vec<String>>;

impl Layers<'_> {
    /// Credentials, certificates, mirrors and limits.
    pub(crate) fn registries(&self) -> Result<Registries, BadInput> {
        let most = self.pick(None, &env_vars::MAX_IMAGE, parse::<Size>)?.value;
        let ca = self.find(None, &env_vars::REGISTRY_CA)?.map(|picked| picked.value.into());
        let mirrors = self.pick(None, &env_vars::REGISTRY_MIRRORS, mirrors)?.value;
        let credentials = self.credentials();
        Ok(Registries { settings: Settings { credentials, ca, mirrors }, most })
    }

    fn credentials(&self) -> Credentials {
        let env = &self.world.env;
        let usual = || Some(Path::new(env.get(&env_vars::USER_HOME)?).join(".docker"));
        let docker = env.get(&env_vars::DOCKER_CONFIG).map(Into::into).or_else(usual);
        let docker = docker.map(|dir| dir.join("config.json"));
        let podman = env.get(&env_vars::RUNTIME_DIR).map(Path::new);
        let podman = podman.map(|dir| dir.join("containers/auth.json"));
        Credentials { files: docker.into_iter().chain(podman).collect() }
    }
}

/// Reads `REGISTRY=MIRROR,REGISTRY=MIRROR`.
fn mirrors(text: &str) -> Result<Mirrors, BadValue> {
    let mut mirrors = Mirrors::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let plain = |name: &str| !name.is_empty() && !name.contains(['/', '@', ' ']);
        match pair.split_once('=') {
            Some((registry, mirror)) if plain(registry) && plain(mirror) => {
                mirrors.entry(registry.to_owned()).or_default().push(mirror.to_owned());
            }
            _ => return Err(BadValue::Mirror(shown(pair))),
        }
    }
    Ok(mirrors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::World;

    #[test]
    fn mirrors_come_in_order() {
        let mirrors = mirrors("docker.io=a:5000, docker.io=b,ghcr.io=a:5000").unwrap();
        assert_eq!(mirrors["docker.io"], ["a:5000", "b"]);
        assert_eq!(mirrors["ghcr.io"], ["a:5000"]);
        for bad in ["a", "a=", "=b", "a=https://b"] {
            assert!(super::mirrors(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn credentials_are_where_docker_and_podman_keep_them() {
        let files = |env: &[_]| Layers::open(&World::made_up(env)).unwrap().credentials().files;
        let home = [("HOME", "/me"), ("XDG_RUNTIME_DIR", "/run/me")];
        let wanted = ["/me/.docker/config.json", "/run/me/containers/auth.json"];
        assert_eq!(files(&home), wanted.map(std::path::PathBuf::from));
        let other = [("HOME", "/me"), ("DOCKER_CONFIG", "/etc/docker")];
        assert_eq!(files(&other), [std::path::PathBuf::from("/etc/docker/config.json")]);
    }
}
