//! This test's own program, as a network.

use std::os::fd::AsFd;

use lampyr_net::{Program, be_network};

/// What starts [`become_one`] in a process of its own.
pub(crate) fn program() -> Program {
    let words = ["--exact", "network::become_one", "--ignored"];
    Program { path: std::env::current_exe().unwrap(), arguments: words.map(Into::into).to_vec() }
}

#[test]
#[ignore = "it is started by the others"]
fn become_one() {
    // Whoever starts it by hand has nothing to say to it.
    let _ = be_network(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
}
