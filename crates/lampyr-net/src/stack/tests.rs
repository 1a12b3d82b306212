use std::net::TcpListener;

use super::*;
use crate::access::Access;
use crate::policy::Policy;
use crate::resolver::Servers;

/// A stack of nobody's that has a stream to there which it is connecting.
fn dialling(rules: &[&str], there: &str) -> (Stack, TcpListener) {
    let policy = Policy::of(rules.iter().copied()).unwrap();
    let shared = Arc::new(Shared::new(Access::from(policy), None, Servers::Here));
    let (line, _) = UnixStream::pair().unwrap();
    let card = crate::card::random();
    let mut stack = Stack::new(line, card, shared, None);
    let ends = Ends { guest: (card.v4, 7).into(), there: there.parse().unwrap() };
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
    let done = std::future::poll_fn(|cx| match stack.dialled(cx) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    });
    timeout(Duration::from_secs(20), done).await.unwrap();
}

#[tokio::test]
async fn what_is_being_connected_is_held_to_another_policy() {
    let (mut stack, _listener) = dialling(&["10.99.0.0/24"], "10.99.0.2:80");
    replace(&mut stack, &["10.98.0.0/24"]).await;
    assert!(stack.streams.is_empty());
    let denied = stack.shared.since(&Default::default()).1;
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
