use std::net::TcpListener;

use super::*;
use crate::access::Access;
use crate::ledger::Position;
use crate::policy::Policy;
use crate::resolver::Servers;

fn stack(rules: &[&str]) -> Stack {
    let policy = Policy::of(rules.iter().copied()).unwrap();
    let shared = Arc::new(Shared::new(Access::from(policy), None, Servers::Here));
    let (line, _) = UnixStream::pair().unwrap();
    Stack::new(line, crate::card::random(), shared, None)
}

fn ends(stack: &Stack, there: &str) -> Ends {
    Ends { guest: (stack.card.v4, 7).into(), there: there.parse().unwrap() }
}

/// A stack of nobody's that has a stream to there which it is connecting.
fn dialling(rules: &[&str], there: &str) -> (Stack, TcpListener) {
    let mut stack = stack(rules);
    let ends = ends(&stack, there);
    let (opened, guard) = stack.judge(ends.there, Vec::new()).unwrap();
    stack.held.insert(ends, Held { frame: vec![0; 60], opened, guard });
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let to = listener.local_addr().unwrap();
    stack.dials.spawn(async move { (ends, dial(to).await) });
    (stack, listener)
}

/// Puts other rules in force, and waits until it is connected.
async fn replace(stack: &mut Stack, rules: &[&str]) {
    stack.shared.replace(Policy::of(rules.iter().copied()).unwrap());
    stack.enforce();
    let done =
        std::future::poll_fn(|cx| if stack.dialled(cx) { Poll::Ready(()) } else { Poll::Pending });
    timeout(Duration::from_secs(20), done).await.unwrap();
}

#[tokio::test]
async fn what_is_being_connected_is_held_to_another_policy() {
    let (mut stack, _listener) = dialling(&["10.99.0.0/24"], "10.99.0.2:80");
    replace(&mut stack, &["10.98.0.0/24"]).await;
    assert!(stack.streams.is_empty());
    let denied = stack.shared.since(&Position::default()).1;
    assert_eq!((denied.len(), denied[0].host.as_str()), (1, "10.99.0.2"));
    assert_eq!(denied[0].reason, Reason::Private);
}

#[tokio::test]
async fn what_is_being_connected_goes_by_the_rules_in_force() {
    let (mut stack, _listener) = dialling(&["10.99.0.0/24"], "10.99.0.2:80");
    replace(&mut stack, &["deny:ads.example.com", "10.99.0.0/24"]).await;
    let relay = stack.streams.values().next().unwrap();
    let ads = Domain::parse("ads.example.com").unwrap();
    let policy = stack.shared.policy();
    assert_eq!(relay.opened.admits(&policy, relay.there, &ads), Err(Reason::Rule));
}

#[tokio::test]
async fn a_datagram_that_is_shut_is_refused_at_once_and_not_without_end() {
    let mut stack = stack(&["public"]);
    let gateway = SocketAddr::from((Card::GATEWAY_V4, 123)).to_string();
    for there in ["10.99.0.2:9", "93.184.216.34:123", &gateway] {
        let before = stack.queue.out.next_piece().len();
        let ends = ends(&stack, there);
        stack.datagram(ends, b"hello");
        assert!(stack.queue.out.next_piece().len() > before, "{there}");
    }
    let denied = stack.shared.since(&Position::default()).1;
    let said: Vec<_> = denied.iter().map(|d| (d.reason, d.rule_hint.as_deref())).collect();
    let expected = [
        (Reason::Private, Some("10.99.0.2:9/udp")),
        (Reason::NoRule, Some("93.184.216.34:123/udp")),
        (Reason::Host, None),
    ];
    assert_eq!(said, expected);
    let ends = ends(&stack, "10.99.0.2:9");
    for _ in 0..10_000 {
        stack.datagram(ends, b"hello");
    }
    assert!(stack.queue.out.next_piece().len() < 64 << 10);
}

#[tokio::test]
async fn a_conversation_outlives_the_answer_that_named_it() {
    let mut stack = stack(&["ntp.example.com:123/udp"]);
    let there = ends(&stack, "93.184.216.34:123");
    let names = vec![Domain::parse("ntp.example.com").unwrap()];
    // The answer is forgotten: no pin is there.
    stack.datagrams.open(there, names, Instant::now()).unwrap();
    stack.shared.replace(Policy::of(["ntp.example.com:123/udp"]).unwrap());
    stack.enforce();
    assert!(stack.datagrams.knows(&there));
    stack.shared.replace(Policy::of(["b.example.com:123/udp"]).unwrap());
    stack.enforce();
    assert!(!stack.datagrams.knows(&there));
    assert_eq!(stack.shared.since(&Position::default()).1[0].host, "ntp.example.com");
}
