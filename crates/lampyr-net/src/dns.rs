//! Questions about names, and answers, as bytes.

use std::net::IpAddr;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use crate::domain::Domain;

/// The most addresses in an answer, so that it fits every datagram.
pub(crate) const MAX_ADDRESSES: usize = 8;
/// The longest chain of names from one to its addresses.
const MAX_CHAIN: usize = 16;

/// The least bytes of a question and of a record.
const LEAST_QUERY: usize = 5;
const LEAST_RECORD: usize = 11;

/// What kind of address is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
    /// Something that is not an address, and is never answered.
    Other,
}

/// A question of a guest.
#[derive(Debug, Clone)]
pub struct Question {
    id: u16,
    query: Query,
    /// The name.
    pub name: Domain,
    /// What is asked of it.
    pub kind: Kind,
}

/// What a server has said of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// These addresses, for so many seconds.
    Addresses(Vec<IpAddr>, u32),
    /// There is no such name.
    NoName,
    /// The answer did not fit: ask over TCP.
    Cut,
    /// It could not say.
    Failed,
}

impl Question {
    /// Reads a question; `None` where there is nothing to be answered.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (id, query) = asked(bytes)?;
        let name = Domain::parse(&query.name.to_ascii()).ok()?;
        let kind = match query.query_type {
            RecordType::A => Kind::V4,
            RecordType::AAAA => Kind::V6,
            _ => Kind::Other,
        };
        Some(Self { id, query, name, kind })
    }

    /// An answer of addresses; none: there is nothing of this kind.
    pub fn answer(&self, addresses: &[IpAddr], seconds: u32) -> Vec<u8> {
        let mut message = self.reply(ResponseCode::NoError);
        for address in addresses.iter().take(MAX_ADDRESSES) {
            let data = match address {
                IpAddr::V4(v4) => RData::A(A(*v4)),
                IpAddr::V6(v6) => RData::AAAA(AAAA(*v6)),
            };
            message.add_answer(Record::from_rdata(self.query.name.clone(), seconds, data));
        }
        message.to_vec().unwrap_or_default()
    }

    /// There is no such name.
    pub fn no_name(&self) -> Vec<u8> {
        self.reply(ResponseCode::NXDomain).to_vec().unwrap_or_default()
    }

    /// Nobody could say.
    pub fn failed(&self) -> Vec<u8> {
        self.reply(ResponseCode::ServFail).to_vec().unwrap_or_default()
    }

    fn reply(&self, code: ResponseCode) -> Message {
        reply(self.id, &self.query, code)
    }
}

/// The answer to a question for what is the name of no host, and what that is.
pub(crate) fn nobody(bytes: &[u8]) -> Option<(String, Vec<u8>)> {
    let (id, query) = asked(bytes)?;
    let name = query.name.to_ascii();
    let name = name.strip_suffix('.').unwrap_or(&name).chars().take(253).collect();
    Some((name, reply(id, &query, ResponseCode::NXDomain).to_vec().ok()?))
}

/// The one question of a message that asks.
fn asked(bytes: &[u8]) -> Option<(u16, Query)> {
    let message = message(bytes)?;
    let asks = message.metadata.message_type == MessageType::Query
        && message.metadata.op_code == OpCode::Query;
    let [query] = message.queries.as_slice() else { return None };
    let good = asks && query.query_class == DNSClass::IN;
    good.then(|| (message.metadata.id, query.clone()))
}

fn reply(id: u16, query: &Query, code: ResponseCode) -> Message {
    let mut message = Message::response(id, OpCode::Query);
    message.metadata.response_code = code;
    message.metadata.recursion_desired = true;
    message.metadata.recursion_available = true;
    message.add_query(query.clone());
    message
}

/// A question of ours, to a server.
pub fn ask(id: u16, name: &Domain, kind: Kind) -> Option<Vec<u8>> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(absolute(name)?, record_type(kind)?));
    message.to_vec().ok()
}

/// Reads a message, unless it claims to hold more than it could: the library
/// makes room for all that is claimed.
fn message(bytes: &[u8]) -> Option<Message> {
    let (_, counts) = bytes.get(..12)?.split_at(4);
    let count = |at: usize| usize::from(counts[at]) << 8 | usize::from(counts[at + 1]);
    let least = 12 + count(0) * LEAST_QUERY + (count(2) + count(4) + count(6)) * LEAST_RECORD;
    if least > bytes.len() { None } else { Message::from_vec(bytes).ok() }
}

fn absolute(name: &Domain) -> Option<Name> {
    Name::from_ascii(format!("{name}.")).ok()
}

fn record_type(kind: Kind) -> Option<RecordType> {
    match kind {
        Kind::V4 => Some(RecordType::A),
        Kind::V6 => Some(RecordType::AAAA),
        Kind::Other => None,
    }
}

/// Reads what a server says to question `id`; `None`: it is no answer to that.
pub fn hear(bytes: &[u8], id: u16, name: &Domain, kind: Kind) -> Option<Said> {
    let message = message(bytes)?;
    let meta = &message.metadata;
    let [query] = message.queries.as_slice() else { return None };
    let ours = Domain::parse(&query.name.to_ascii()).ok()? == *name
        && query.query_type == record_type(kind)?;
    if meta.id != id || meta.message_type != MessageType::Response || !ours {
        return None;
    }
    Some(match meta.response_code {
        _ if meta.truncation => Said::Cut,
        ResponseCode::NoError => addresses(&message, name, kind),
        ResponseCode::NXDomain => Said::NoName,
        _ => Said::Failed,
    })
}

/// Follows a name through its aliases to its addresses.
fn addresses(message: &Message, name: &Domain, kind: Kind) -> Said {
    let (mut at, mut seconds) = (name.clone(), u32::MAX);
    for _ in 0..MAX_CHAIN {
        let own = |record: &&Record| {
            Domain::parse(&record.name.to_ascii()).is_ok_and(|owner| owner == at)
        };
        let mut alias = None;
        let mut found = Vec::new();
        for record in message.answers.iter().filter(own) {
            match (&record.data, kind) {
                (RData::A(a), Kind::V4) => found.push(IpAddr::V4(a.0)),
                (RData::AAAA(a), Kind::V6) => found.push(IpAddr::V6(a.0)),
                (RData::CNAME(c), _) => alias = Domain::parse(&c.0.to_ascii()).ok(),
                _ => continue,
            }
            seconds = seconds.min(record.ttl);
        }
        match alias {
            Some(next) if found.is_empty() => at = next,
            _ => return Said::Addresses(found, seconds.min(3600)),
        }
    }
    Said::Failed
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::rdata::CNAME;

    fn name(text: &str) -> Domain {
        Domain::parse(text).unwrap()
    }

    #[test]
    fn a_question_is_read_and_answered() {
        let asked = ask(7, &name("a.example.com"), Kind::V4).unwrap();
        let question = Question::read(&asked).unwrap();
        assert_eq!((question.name.as_str(), question.kind), ("a.example.com", Kind::V4));
        let addresses = vec![IpAddr::from([93, 184, 216, 34])];
        let answer = question.answer(&addresses, 60);
        let heard = hear(&answer, 7, &question.name, Kind::V4);
        assert_eq!(heard, Some(Said::Addresses(addresses, 60)));
        assert_eq!(hear(&answer, 8, &question.name, Kind::V4), None);
        assert_eq!(hear(&answer, 7, &name("b.example.com"), Kind::V4), None);
        assert_eq!(hear(&question.no_name(), 7, &question.name, Kind::V4), Some(Said::NoName));
        assert!(question.answer(&[IpAddr::from([0_u16; 8]); 20], 60).len() < 512);
    }

    #[test]
    fn what_looks_like_an_address_is_nobody() {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        let odd = Name::from_ascii("999.1.2.3.").unwrap();
        message.add_query(Query::query(odd, RecordType::A));
        let asked = message.to_vec().unwrap();
        assert!(Question::read(&asked).is_none());
        let (name, answer) = nobody(&asked).unwrap();
        let answer = Message::from_vec(&answer).unwrap();
        assert_eq!((name.as_str(), answer.metadata.id), ("999.1.2.3", 7));
        assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
        assert!(nobody(&answer.to_vec().unwrap()).is_none(), "that is no question");
    }

    #[test]
    fn a_message_that_claims_too_much_is_not_read() {
        let mut asked = ask(7, &name("a.example.com"), Kind::V4).unwrap();
        asked[6..8].copy_from_slice(&[0xff, 0xff]);
        assert!(Question::read(&asked).is_none());
    }

    #[test]
    fn aliases_are_followed_and_strangers_passed_over() {
        let asked = ask(7, &name("a.example.com"), Kind::V4).unwrap();
        let question = Question::read(&asked).unwrap();
        let mut message = question.reply(ResponseCode::NoError);
        let absolute = |text: &str| Name::from_ascii(format!("{text}.")).unwrap();
        let alias = RData::CNAME(CNAME(absolute("b.example.net")));
        message.add_answer(Record::from_rdata(absolute("a.example.com"), 30, alias));
        for (owner, last) in [("b.example.net", 1), ("evil.example.net", 2)] {
            let data = RData::A(A([93, 184, 216, last].into()));
            message.add_answer(Record::from_rdata(absolute(owner), 90, data));
        }
        let heard = hear(&message.to_vec().unwrap(), 7, &question.name, Kind::V4);
        assert_eq!(heard, Some(Said::Addresses(vec![[93, 184, 216, 1].into()], 30)));
    }
}
