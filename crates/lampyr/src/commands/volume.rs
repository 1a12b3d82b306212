//! `lampyr volume`.

use std::fmt::Write as _;

use lampyr_store::Store;
use lampyr_types::Name;
use serde_json::{Value, json};

use crate::args::VolumeCommand;
use crate::core_api::{Error, Volume};
use crate::failure::Failure;
use crate::printer::Printer;
use crate::settings::{Format, Layers, NewVolume, volume_name};

use super::human;

/// Tells the commands under `volume` apart.
pub(super) fn volume(
    command: &VolumeCommand,
    layers: &Layers<'_>,
    printer: &Printer,
) -> Result<u8, Failure> {
    let open = || Store::open(layers.home()).map_err(Error::from);
    let (data, text) = match command {
        VolumeCommand::Create(args) => {
            let NewVolume { name, quota, labels } = NewVolume::resolve(args)?;
            let made = Volume::create(&open()?, &name, quota, labels)?;
            (row(&made), format!("{name}\n"))
        }
        VolumeCommand::Inspect(args) => {
            let volume = Volume::inspect(&open()?, &volume_name(&args.name)?)?;
            (row(&volume), table(&[volume]))
        }
        VolumeCommand::Rm(args) => {
            let name = volume_name(&args.name)?;
            Volume::remove(&open()?, &name)?;
            (json!({"removed": name.as_str()}), format!("removed {name}\n"))
        }
        VolumeCommand::List(args) => return list(&open()?, layers.format(args.json)?, printer),
    };
    match layers.format(false)? {
        Format::Json => printer.json(&data)?,
        Format::Text => printer.data(text.as_bytes())?,
    }
    Ok(0)
}

fn list(store: &Store, format: Format, printer: &Printer) -> Result<u8, Failure> {
    let names = Volume::list(store)?;
    match format {
        Format::Json => printer.json(&names.iter().map(Name::as_str).collect())?,
        Format::Text => {
            // One that was removed meanwhile is none.
            let volumes: Vec<_> =
                names.iter().filter_map(|name| Volume::inspect(store, name).ok()).collect();
            printer.data(table(&volumes).as_bytes())?;
        }
    }
    Ok(0)
}

fn row(volume: &Volume) -> Value {
    json!({
        "name": volume.name.as_str(),
        "size_bytes": volume.size_bytes,
        "quota_bytes": volume.quota_bytes,
        "labels": volume.labels,
        "created": volume.created,
        "last_used": volume.last_used,
    })
}

fn table(volumes: &[Volume]) -> String {
    if volumes.is_empty() {
        return "no volumes\n".to_owned();
    }
    let mut text = format!("{:>9}  {:>9}  {:20}  NAME\n", "SIZE", "QUOTA", "LAST USED");
    for volume in volumes {
        let (size, quota) = (human(volume.size_bytes), volume.quota_bytes.map(human));
        let (quota, used) = (quota.unwrap_or_default(), volume.last_used.as_deref());
        let used = used.map_or("never", |time| time.get(..19).unwrap_or(time));
        let _ = writeln!(text, "{size:>9}  {quota:>9}  {used:20}  {}", volume.name);
    }
    text
}
