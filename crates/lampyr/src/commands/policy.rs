//! `lampyr policy`.

use serde_json::{Value, json};

use crate::args::PolicyCommand;
use crate::core_api::SessionClient;
use crate::failure::Failure;
use crate::printer::Printer;
use crate::settings::{Format, Layers, NewPolicy, policy_file, sid};

/// Tells the commands under `policy` apart.
pub(super) fn policy(
    command: &PolicyCommand,
    layers: &Layers<'_>,
    printer: &Printer,
) -> Result<u8, Failure> {
    let (data, text) = match command {
        PolicyCommand::Check(args) => check(&args.file)?,
        PolicyCommand::Set(args) => super::block_on(set(NewPolicy::resolve(args)?, layers))??,
        PolicyCommand::Suggest(args) => super::block_on(suggest(sid(&args.sid)?, layers))??,
    };
    match layers.format(false)? {
        Format::Json => printer.json(&data)?,
        Format::Text => printer.data(text.as_bytes())?,
    }
    Ok(0)
}

type Answer = (Value, String);

fn check(file: &str) -> Result<Answer, Failure> {
    let policy = policy_file("policy check", file)?;
    let row =
        |rule: &crate::core_api::Rule| json!({"rule": rule.to_string(), "means": rule.explain()});
    let rules: Vec<_> = policy.rules().iter().map(row).collect();
    Ok((json!({"rules": rules}), policy.explain().join("\n") + "\n"))
}

async fn set(new: NewPolicy, layers: &Layers<'_>) -> Result<Answer, Failure> {
    let client = SessionClient::connect(layers.home(), &new.sid).await?;
    client.restrict(&new.policy).await?;
    let rules: Vec<_> = new.policy.rules().iter().map(ToString::to_string).collect();
    Ok((json!({"rules": rules}), new.policy.explain().join("\n") + "\n"))
}

async fn suggest(sid: String, layers: &Layers<'_>) -> Result<Answer, Failure> {
    let client = SessionClient::connect(layers.home(), &sid).await?;
    let rules = client.suggest().await?;
    let text = rules.iter().map(|rule| format!("    \"{rule}\",\n")).collect::<String>();
    Ok((json!({"rules": rules}), format!("rules = [\n{text}]\n")))
}
