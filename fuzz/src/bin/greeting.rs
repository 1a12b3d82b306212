//! Fuzzes the search for a greeting.

#![cfg_attr(fuzzing, no_main)]

lampyr_fuzz::program!(lampyr_fuzz::greeting);
