//! Fuzzes the decoder of frames.

#![cfg_attr(fuzzing, no_main)]

lampyr_fuzz::program!(lampyr_fuzz::frames);
