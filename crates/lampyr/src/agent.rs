//! The guest agent that this binary carries.

/// What `build.rs` found.
static AGENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/agent"));

/// The agent's program, or `None` in a build that was made without one.
pub(crate) fn bytes() -> Option<&'static [u8]> {
    (!AGENT.is_empty()).then_some(AGENT)
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_agent_is_a_program_or_absent() {
        assert!(super::bytes().is_none_or(|agent| agent.starts_with(b"\x7fELF")));
    }
}
