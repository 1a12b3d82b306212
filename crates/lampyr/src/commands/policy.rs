//! `lampyr policy`.

use serde_json::{Value, json};

use crate::args::PolicyCommand;
use crate::core_api::{SessionClient, Suggestion};
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
    if data.get("left_out").is_some() {
        printer.note("warning: more was reached than is kept: these rules open a part of it");
    }
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
    Ok(suggested(&client.suggest().await?))
}

/// A policy file.
fn suggested(suggestion: &Suggestion) -> Answer {
    let Suggestion { rules, left_out } = suggestion;
    let mut data = json!({"rules": rules});
    let text = rules.iter().map(|rule| format!("    \"{rule}\",\n")).collect::<String>();
    if *left_out {
        data["left_out"] = true.into();
    }
    (data, format!("rules = [\n{text}]\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suggestion_says_where_it_is_not_whole() {
        let of = |left_out| Suggestion { rules: vec!["a.b:80".into()], left_out };
        let (data, text) = suggested(&of(false));
        assert_eq!(data, json!({"rules": ["a.b:80"]}));
        assert_eq!(text, "rules = [\n    \"a.b:80\",\n]\n");
        assert_eq!(suggested(&of(true)).0, json!({"rules": ["a.b:80"], "left_out": true}));
    }
}
