//! Snapshots that are of use as they are. Building one needs a network, of which
//! it is given the registries that it names and nothing else.
//!
//! ```
//! use lampyr_sdk::presets::coding_agents;
//!
//! let config = coding_agents().name("agents").step("mkdir -p /work");
//! # assert_eq!(config.snapshot_name(), "agents");
//! ```

use crate::config::{Resources, SnapshotConfig, exec, shell};

const AGENTS: [&str; 4] =
    ["@github/copilot", "@google/gemini-cli", "@openai/codex", "@earendil-works/pi-coding-agent"];

/// Four coding agents, installed with bun: `copilot`, `gemini`, `codex` and `pi`.
///
/// The snapshot is `lightbox`, of `oven/bun`, with two processors and 1G of
/// memory; each of these can be said anew.
pub fn coding_agents() -> SnapshotConfig {
    let config = sized(SnapshotConfig::new("lightbox", "oven/bun")).net("registry.npmjs.org:443");
    AGENTS.into_iter().fold(config, |config, agent| {
        let install = exec("bun").args(["install", "-g", agent]);
        config.step(install.described(format!("install {agent}")))
    })
}

/// Python with numpy and pandas, both loaded once.
///
/// The snapshot is `data-work`, of `python:3.12-slim`, with two processors and
/// 1G of memory; each of these can be said anew.
pub fn data_work() -> SnapshotConfig {
    let install = shell("pip install --no-cache-dir numpy pandas");
    sized(SnapshotConfig::new("data-work", "python:3.12-slim"))
        .net("pypi.org:443")
        .net("files.pythonhosted.org:443")
        .step(install.described("install numpy and pandas"))
        .step(exec("python3").args(["-c", "import numpy, pandas"]).described("load them once"))
}

fn sized(config: SnapshotConfig) -> SnapshotConfig {
    config.resources(Resources::new().cpus(2).memory("1G"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn coding_agents_are_installed_one_by_one() {
        let document = serde_json::to_value(coding_agents()).unwrap();
        let step = |agent| {
            let args = ["install", "-g", agent];
            let what = format!("install {agent}");
            json!({"kind": "exec", "cmd": "bun", "args": args, "description": what})
        };
        assert_eq!(document["setup"], json!(AGENTS.map(step)));
        assert_eq!(document["net"], json!(["registry.npmjs.org:443"]));
        assert_eq!(document["resources"], json!({"cpus": 2, "memory": "1G"}));
        assert_eq!(
            (&document["name"], &document["image"]),
            (&json!("lightbox"), &json!("oven/bun"))
        );
    }

    #[test]
    fn what_a_preset_says_can_be_said_anew() {
        let config = data_work().name("mine").image("python:3.13").resources(Resources::new());
        let document = serde_json::to_value(config).unwrap();
        assert_eq!(document["name"], "mine");
        assert_eq!(document["image"], "python:3.13");
        assert_eq!(document["resources"], json!({}));
        assert_eq!(document["setup"].as_array().unwrap().len(), 2);
    }
}
