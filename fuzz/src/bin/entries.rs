//! Fuzzes unpacking, with a list of entries.

#![cfg_attr(feature = "libfuzzer", no_main)]

lampyr_fuzz::program!(lampyr_fuzz::entries, lampyr_fuzz::mutate);
