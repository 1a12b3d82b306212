//! Fuzzes what answers a guest's file system requests.

#![cfg_attr(feature = "libfuzzer", no_main)]

lampyr_fuzz::program!(lampyr_fuzz::mount);
