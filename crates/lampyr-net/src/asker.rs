//! Asking a network's process. Orders go to it as they come, and what it
//! answers is for the oldest question that has no answer yet: nobody waits for
//! the answer to somebody else before he may ask.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::control::{Answer, MAX_ANSWER, Order, PATIENCE, hear, say};

/// The most orders that wait to be heard. Of a process that has not heard so
/// many nothing more is expected.
const MAX_WAITING: usize = 1024;

/// An order, and who waits for its answer, where it has one.
type Asked = (Order, Option<oneshot::Sender<Answer>>);

/// Who gives orders to a network's process.
#[derive(Debug)]
pub(crate) struct Asker {
    orders: mpsc::Sender<Asked>,
    marks: AtomicU64,
}

/// A moment in the life of a network. The network forgets it when it is dropped.
#[derive(Debug)]
pub struct Mark {
    /// What the network knows it by, where it could be told.
    number: Option<u64>,
    orders: mpsc::Sender<Asked>,
}

impl Asker {
    /// Gives orders to the process at the other end of `control`, within a
    /// runtime.
    pub(crate) fn new(control: UnixStream) -> Self {
        let (orders, asked) = mpsc::channel(MAX_WAITING);
        tokio::spawn(carry(control, asked));
        Self { orders, marks: AtomicU64::new(0) }
    }

    /// Gives an order and waits for its answer, as long as one may take.
    pub(crate) async fn ask(&self, order: Order) -> io::Result<Answer> {
        let (answer, answered) = oneshot::channel();
        let asked = async {
            self.orders.send((order, Some(answer))).await.ok()?;
            answered.await.ok()
        };
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        timeout(PATIENCE, asked).await.map_err(late)?.ok_or(io::ErrorKind::UnexpectedEof.into())
    }

    /// Marks this moment. It waits for nobody: what the guest does from now on
    /// comes behind this order.
    pub(crate) fn mark(&self) -> Mark {
        let number = self.marks.fetch_add(1, Relaxed) + 1;
        let told = self.orders.try_send((Order::Mark(number), None)).is_ok();
        Mark { number: told.then_some(number), orders: self.orders.clone() }
    }

    /// Asks what came since a moment.
    pub(crate) async fn since(&self, mut mark: Mark) -> io::Result<Answer> {
        match mark.number.take() {
            Some(number) => self.ask(Order::Since(number)).await,
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            let _ = self.orders.try_send((Order::Forget(number), None));
        }
    }
}

/// Carries orders and answers until nobody gives orders, or nobody takes them.
/// Whoever waits then hears that there will be no answer.
async fn carry(control: UnixStream, orders: mpsc::Receiver<Asked>) -> io::Result<()> {
    let (from, to) = control.into_split();
    let (waiting, next) = mpsc::channel(MAX_WAITING);
    tokio::try_join!(tell(to, orders, waiting), listen(from, next)).map(drop)
}

async fn tell(
    mut to: OwnedWriteHalf,
    mut orders: mpsc::Receiver<Asked>,
    waiting: mpsc::Sender<oneshot::Sender<Answer>>,
) -> io::Result<()> {
    while let Some((order, answer)) = orders.recv().await {
        say(&mut to, &order).await?;
        if let Some(answer) = answer {
            waiting.send(answer).await.map_err(io::Error::other)?;
        }
    }
    Ok(())
}

async fn listen(
    mut from: OwnedReadHalf,
    mut next: mpsc::Receiver<oneshot::Sender<Answer>>,
) -> io::Result<()> {
    while let Some(answer) = next.recv().await {
        // Who asked may have gone.
        let _ = answer.send(hear(&mut from, MAX_ANSWER).await?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::MAX_ORDER;
    use crate::ledger::Traffic;

    /// Answers each question with its own number, and tells all that it heard.
    async fn be_asked(mut control: UnixStream) -> Vec<String> {
        let mut heard = Vec::new();
        while let Ok(order) = hear::<Order>(&mut control, MAX_ORDER).await {
            heard.push(format!("{order:?}"));
            if let Order::Since(sent) = order {
                let traffic = Traffic { sent, ..Traffic::default() };
                say(&mut control, &Answer::Since(traffic, Vec::new())).await.unwrap();
            }
        }
        heard
    }

    fn sent(answer: io::Result<Answer>) -> u64 {
        match answer.unwrap() {
            Answer::Since(traffic, _) => traffic.sent,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn whoever_marks_a_moment_asks_once() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let process = tokio::spawn(be_asked(theirs));
        let asker = Asker::new(ours);
        let (first, second, dropped) = (asker.mark(), asker.mark(), asker.mark());
        drop(dropped);
        let (second, first) = tokio::join!(asker.since(second), asker.since(first));
        assert_eq!((sent(first), sent(second)), (1, 2));
        drop(asker);
        let heard = process.await.unwrap();
        let expected = ["Mark(1)", "Mark(2)", "Mark(3)", "Forget(3)", "Since(2)", "Since(1)"];
        assert_eq!(heard, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_does_not_answer_keeps_nobody_from_marking() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let asker = Asker::new(ours);
        let marks: Vec<_> = (0..2 * MAX_WAITING).map(|_| asker.mark()).collect();
        let told = marks.iter().filter(|mark| mark.number.is_some()).count();
        assert_eq!(told, MAX_WAITING);
        for mark in marks.into_iter().step_by(MAX_WAITING) {
            assert!(asker.since(mark).await.is_err());
        }
        drop(theirs);
        assert!(asker.since(asker.mark()).await.is_err());
    }
}
