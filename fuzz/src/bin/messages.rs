//! Fuzzes the messages within frames.

#![cfg_attr(fuzzing, no_main)]

lampyr_fuzz::program!(lampyr_fuzz::messages);
