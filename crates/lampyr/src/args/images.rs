//! The arguments of everything that has to do with images.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::SizeArgs;

/// The commands under `images`.
#[derive(Debug, Subcommand)]
pub(crate) enum ImagesCommand {
    /// List the images that are here
    List(ListImagesArgs),
    /// Show what is known of an image
    Inspect(ImageArgs),
    /// Fetch an image from a registry
    Pull(ImageArgs),
    /// Run commands in a VM and make an image of its disk
    Create(Box<CreateArgs>),
    /// Put an image into a registry
    Push(PushArgs),
    /// Make an image of a file: an OCI layout, what docker save writes, or a root directory
    Import(ImportArgs),
    /// Write an image into a file that Docker, Podman and skopeo can read
    Save(SaveArgs),
    /// Make images of all that a file holds, under their own names
    Load(LoadArgs),
    /// Remove an image and what was prepared from it
    Rm(ImageArgs),
    /// Remove what no image needs any more
    Prune(PruneArgs),
}

/// The arguments of `images list`.
#[derive(Debug, Args)]
pub(crate) struct ListImagesArgs {
    /// Print JSON on a terminal too
    #[arg(long)]
    pub(crate) json: bool,
}

/// The arguments of the commands on one image.
#[derive(Debug, Args)]
pub(crate) struct ImageArgs {
    /// The image: a name, or a reference such as python:3.12
    pub(crate) image: String,
}

/// The arguments of `images prune`.
#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Say what would be removed and remove nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// The arguments of `images create`.
#[derive(Debug, Default, Args)]
pub(crate) struct CreateArgs {
    /// What to call the image
    pub(crate) name: String,
    /// The image to begin with [default: default]
    #[arg(long, value_name = "IMAGE")]
    pub(crate) from: Option<String>,
    /// A command for the shell; may be given again
    #[arg(long, value_name = "COMMAND")]
    pub(crate) run: Vec<String>,
    /// How long each command may take [default: 60s]
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<String>,
    /// What the commands may reach: none, public or allow=RULE[,RULE…] [default: none]
    #[arg(long, value_name = "NET", conflicts_with = "policy")]
    pub(crate) net: Option<String>,
    /// The same, from a file
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<String>,
    /// How much of each it has
    #[command(flatten)]
    pub(crate) size: SizeArgs,
}

/// The arguments of `images push`.
#[derive(Debug, Args)]
pub(crate) struct PushArgs {
    /// The image: a name, or a reference
    pub(crate) image: String,
    /// Where to put it, such as localhost:5000/tools:1; by default where it came from
    pub(crate) reference: Option<String>,
}

/// The arguments of `images import`.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The file, as it is or packed with gzip or zstd
    pub(crate) file: PathBuf,
    /// What to call the image
    pub(crate) name: String,
}

/// The arguments of `images save`.
#[derive(Debug, Args)]
pub(crate) struct SaveArgs {
    /// The image: a name, or a reference
    pub(crate) image: String,
    /// The file to write
    pub(crate) file: PathBuf,
}

/// The arguments of `images load`.
#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// The file, as it is or packed with gzip or zstd
    pub(crate) file: PathBuf,
}
