//! The use-cases, wherever they live: the rest of this crate says
//! `use crate::core_api as core`.

pub(crate) use lampyr_core::*;
