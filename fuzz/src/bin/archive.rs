//! Fuzzes unpacking, with the bytes of an archive.

#![cfg_attr(feature = "libfuzzer", no_main)]

lampyr_fuzz::program!(lampyr_fuzz::archive);
