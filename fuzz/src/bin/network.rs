//! Fuzzes what hears a guest's network card.

#![cfg_attr(feature = "libfuzzer", no_main)]

lampyr_fuzz::program!(lampyr_fuzz::network);
