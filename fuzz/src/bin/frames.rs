//! Fuzzes the decoder of frames.

#![cfg_attr(feature = "libfuzzer", no_main)]

lampyr_fuzz::program!(lampyr_fuzz::frames);
