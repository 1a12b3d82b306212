//! Fuzzes unpacking, with the bytes of an archive.

#![cfg_attr(fuzzing, no_main)]

lampyr_fuzz::program!(lampyr_fuzz::archive);
