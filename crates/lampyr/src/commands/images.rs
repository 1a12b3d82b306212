//! `lampyr images`.

use std::fmt::Write as _;

use lampyr_image::Image;
use serde_json::{Value, json};

use crate::args::{
    CreateArgs, ImageArgs, ImagesCommand, ImportArgs, ListImagesArgs, LoadArgs, PruneArgs,
    PushArgs, SaveArgs,
};
use crate::core_api::{self as core, Output, OutputStream};
use crate::failure::Failure;
use crate::printer::Printer;
use crate::progress::progress;
use crate::settings::{CreateSettings, Format, Layers, image, reference};
use crate::wiring;

use super::{clean, human};

/// Tells the commands under `images` apart.
pub(super) fn images(
    command: &ImagesCommand,
    layers: &Layers<'_>,
    printer: &Printer,
) -> Result<u8, Failure> {
    match command {
        ImagesCommand::List(args) => list(args, layers, printer),
        ImagesCommand::Inspect(args) => inspect(args, layers, printer),
        ImagesCommand::Pull(args) => pull(args, layers, printer),
        ImagesCommand::Create(args) => create(args, layers, printer),
        ImagesCommand::Push(args) => push(args, layers, printer),
        ImagesCommand::Import(args) => import(args, layers, printer),
        ImagesCommand::Save(args) => save(args, layers, printer),
        ImagesCommand::Load(args) => load(args, layers, printer),
        ImagesCommand::Rm(args) => rm(args, layers, printer),
        ImagesCommand::Prune(args) => prune(args, layers, printer),
    }
}

fn list(args: &ListImagesArgs, layers: &Layers<'_>, printer: &Printer) -> Result<u8, Failure> {
    let format = layers.format(args.json)?;
    let images = core::images(layers.home())?;
    match format {
        Format::Json => {
            printer.json(&images.iter().map(|image| Value::from(image.name.as_str())).collect())?;
        }
        Format::Text => printer.data(table(&images).as_bytes())?,
    }
    Ok(0)
}

fn inspect(args: &ImageArgs, layers: &Layers<'_>, printer: &Printer) -> Result<u8, Failure> {
    let (image, format) = (image(&args.image)?, layers.format(false)?);
    tell(&core::image(layers.home(), &image)?, format, printer)
}

fn pull(args: &ImageArgs, layers: &Layers<'_>, printer: &Printer) -> Result<u8, Failure> {
    let (reference, registries) = (reference(&args.image)?, layers.registries()?);
    let (format, progress) = (layers.format(false)?, progress(layers.world(), printer));
    let pulling = core::pull_image(layers.home(), &reference, &registries, &*progress);
    match super::until_interrupted(pulling)? {
        Err(status) => Ok(status),
        Ok(image) => tell(&image, format, printer),
    }
}

fn create(args: &CreateArgs, layers: &Layers<'_>, printer: &Printer) -> Result<u8, Failure> {
    let CreateSettings { request, host } = CreateSettings::resolve(args, layers)?;
    let (format, progress) = (layers.format(false)?, progress(layers.world(), printer));
    let settings = wiring::host(host, progress)?;
    let mut output = Aside(printer);
    let creating = async {
        let host = core::Host::open(&settings).await?;
        core::create_image(&host, &request, &mut output).await
    };
    match super::until_interrupted(creating)? {
        Err(status) => Ok(status),
        Ok(image) => tell(&image, format, printer),
    }
}

/// What commands say goes to standard error: the answer is the image.
struct Aside<'a>(&'a Printer);

impl Output for Aside<'_> {
    fn write(&mut self, _stream: OutputStream, bytes: &[u8]) -> std::io::Result<()> {
        self.0.aside(bytes)
    }
}

fn push(args: &PushArgs, layers: &Layers<'_>, printer: &Printer) -> Result<u8, Failure> {
    let image = image(&args.image)?;
    let target = reference(args.reference.as_ref().unwrap_or(&args.image))?;
    let (format, progress) = (layers.format(false)?, progress(layers.world(), printer));
    let registries = layers.registries()?;
    let pushing = core::push_image(layers.home(), &image, &target, &registries, &*progress);
    match (super::until_interrupted(pushing)?, format) {
        (Err(status), _) => return Ok(status),
        (Ok(()), Format::Json) => printer.json(&json!({"pushed": target.to_string()}))?,
        (Ok(()), Format::Text) => printer.data(format!("pushed {target}\n").as_bytes())?,
    }
    Ok(0)
}

fn import(args: &ImportArgs, layers: &Layers<'_>, printer: &Printer) -> Result<u8, Failure> {
    let (name, registries) = (image(&args.name)?, layers.registries()?);
    let (format, progress) = (layers.format(false)?, progress(layers.world(), printer));
    let importing = core::import_image(layers.home(), &args.file, &name, &registries, &*progress);
    match super::until_interrupted(importing)? {
        Err(status) => Ok(status),
        Ok(image) => tell(&image, format, printer),
    }
}

fn load(args: &LoadArgs, layers: &Layers<'_>, printer: &Printer) -> Result<u8, Failure> {
    let (format, progress) = (layers.format(false)?, progress(layers.world(), printer));
    let registries = layers.registries()?;
    let loading = core::load_images(layers.home(), &args.file, &registries, &*progress);
    match (super::until_interrupted(loading)?, format) {
        (Err(status), _) => return Ok(status),
        (Ok(images), Format::Json) => printer.json(&images.iter().map(data).collect())?,
        (Ok(images), Format::Text) => printer.data(table(&images).as_bytes())?,
    }
    Ok(0)
}

fn save(args: &SaveArgs, layers: &Layers<'_>, printer: &Printer) -> Result<u8, Failure> {
    let (image, format) = (image(&args.image)?, layers.format(false)?);
    let saving = core::save_image(layers.home(), &image, &args.file);
    match (super::until_interrupted(saving)?, format) {
        (Err(status), _) => return Ok(status),
        (Ok(()), Format::Json) => printer.json(&json!({"saved": args.file.to_string_lossy()}))?,
        (Ok(()), Format::Text) => {
            printer.data(format!("saved {}\n", args.file.display()).as_bytes())?;
        }
    }
    Ok(0)
}

fn rm(args: &ImageArgs, layers: &Layers<'_>, printer: &Printer) -> Result<u8, Failure> {
    let (image, format) = (image(&args.image)?, layers.format(false)?);
    clean::tell(&core::remove_image(layers.home(), &image)?, false, format, printer)
}

fn prune(args: &PruneArgs, layers: &Layers<'_>, printer: &Printer) -> Result<u8, Failure> {
    let format = layers.format(false)?;
    let cleaned = core::prune_images(layers.home(), args.dry_run)?;
    clean::tell(&cleaned, args.dry_run, format, printer)
}

fn tell(image: &Image, format: Format, printer: &Printer) -> Result<u8, Failure> {
    match format {
        Format::Json => printer.json(&data(image))?,
        Format::Text => printer.data(text(image).as_bytes())?,
    }
    Ok(0)
}

fn data(image: &Image) -> Value {
    json!({
        "name": image.name,
        "base": image.base,
        "digest": image.digest,
        "command": image.command,
        "size_bytes": image.size_bytes,
        "created": image.created,
        "config": image.config,
        "origin": image.origin,
    })
}

fn text(image: &Image) -> String {
    let mut text = format!("{}\n", image.name);
    let mut line = |key: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "  {key:<8} {value}");
        }
    };
    line("base", image.base.as_deref().unwrap_or_default());
    line("digest", &image.digest);
    line("command", &image.command.join(" "));
    line("size", &human(image.size_bytes));
    line("created", &image.created);
    text
}

fn table(images: &[Image]) -> String {
    if images.is_empty() {
        return "no images\n".to_owned();
    }
    let mut text = format!("{:>10}  {:20}  NAME\n", "SIZE", "CREATED");
    for image in images {
        let created: String = image.created.chars().take(19).collect();
        let _ = writeln!(text, "{:>10}  {created:20}  {}", human(image.size_bytes), image.name);
    }
    text
}
