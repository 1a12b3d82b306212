//! The arguments of everything that has to do with images.

use clap::{Args, Subcommand};

/// The commands under `images`.
#[derive(Debug, Subcommand)]
pub(crate) enum ImagesCommand {
    /// List the images that are here
    List(ListImagesArgs),
    /// Show what is known of an image
    Inspect(ImageArgs),
    /// Fetch an image from a registry
    Pull(ImageArgs),
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
