//! Which names gave which addresses, for as long as they said.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::address::meant;
use crate::domain::Domain;

/// The most addresses that are known at once.
const MAX_ADDRESSES: usize = 4096;
/// The most names of one address.
const MAX_NAMES: usize = 64;
/// The most names of all addresses together, each of which may be 253 bytes.
const MAX_PINS: usize = 2 * MAX_ADDRESSES;
/// A guest may hold on to an answer for a moment before it connects.
const LEAST: Duration = Duration::from_secs(30);
/// No answer holds longer.
const MOST: Duration = Duration::from_hours(1);

/// The addresses that names have given.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    by_address: HashMap<IpAddr, Vec<(Domain, Instant)>>,
    /// How many names there are of all addresses together.
    count: usize,
}

impl Pins {
    /// A name has given an address for so long.
    pub(crate) fn pin(&mut self, address: IpAddr, name: &Domain, valid: Duration, now: Instant) {
        if self.is_full() {
            self.forget(now);
        }
        let until = now + valid.clamp(LEAST, MOST);
        let names = self.by_address.entry(meant(address)).or_default();
        if let Some((_, known)) = names.iter_mut().find(|(known, _)| known == name) {
            *known = until.max(*known);
        } else if names.len() < MAX_NAMES {
            names.push((name.clone(), until));
            self.count += 1;
        }
    }

    fn is_full(&self) -> bool {
        self.by_address.len() >= MAX_ADDRESSES || self.count >= MAX_PINS
    }

    /// The names that an address has now.
    pub(crate) fn names(&self, address: IpAddr, now: Instant) -> Vec<Domain> {
        let names = self.by_address.get(&meant(address)).into_iter().flatten();
        names.filter(|(_, until)| *until > now).map(|(name, _)| name.clone()).collect()
    }

    /// Makes room: what is over, else what is over first.
    fn forget(&mut self, now: Instant) {
        for names in self.by_address.values_mut() {
            names.retain(|(_, until)| *until > now);
        }
        self.by_address.retain(|_, names| !names.is_empty());
        self.count = self.by_address.values().map(Vec::len).sum();
        if self.is_full() {
            let last = |names: &Vec<(Domain, Instant)>| names.iter().map(|(_, until)| *until).max();
            let first = self.by_address.iter().min_by_key(|(_, names)| last(names));
            let first = first.map(|(address, _)| *address);
            let gone = first.and_then(|address| self.by_address.remove(&address));
            self.count -= gone.map_or(0, |names| names.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_holds_as_long_as_the_answer_and_no_longer() {
        let (mut pins, now) = (Pins::default(), Instant::now());
        let name = Domain::parse("a.example.com").unwrap();
        let address: IpAddr = "93.184.216.34".parse().unwrap();
        pins.pin(address, &name, Duration::from_mins(1), now);
        assert_eq!(pins.names(address, now + Duration::from_secs(59)), [name]);
        assert!(pins.names(address, now + Duration::from_secs(61)).is_empty());
        assert!(pins.names("93.184.216.35".parse().unwrap(), now).is_empty());
    }

    #[test]
    fn there_are_never_too_many() {
        let (mut pins, now) = (Pins::default(), Instant::now());
        let name = Domain::parse("a.example.com").unwrap();
        for n in 0..2 * MAX_ADDRESSES as u32 {
            let address = IpAddr::V4((0x0800_0000 + n).into());
            pins.pin(address, &name, Duration::from_mins(1), now);
        }
        assert_eq!(pins.by_address.len(), MAX_ADDRESSES);
    }

    #[test]
    fn all_names_together_are_bounded() {
        let (mut pins, now) = (Pins::default(), Instant::now());
        for n in 0..4 * MAX_PINS {
            let name = Domain::parse(&format!("n{n}.example.com")).unwrap();
            let address = IpAddr::V4((0x0800_0000 + (n / MAX_NAMES) as u32).into());
            pins.pin(address, &name, Duration::from_mins(1), now);
        }
        let held: usize = pins.by_address.values().map(Vec::len).sum();
        assert!(held <= MAX_PINS && held > MAX_PINS / 2, "{held}");
        assert_eq!(held, pins.count);
    }
}
