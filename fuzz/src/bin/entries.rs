//! Fuzzes unpacking, with a list of entries.

#![cfg_attr(fuzzing, no_main)]

lampyr_fuzz::program!(lampyr_fuzz::entries);
