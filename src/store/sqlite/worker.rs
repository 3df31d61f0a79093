//! The two threads that own the connections. Callers wait on a oneshot, so they may run on any runtime.
//!
//! Group commit: the writer takes all commands that wait, runs each in a savepoint of one transaction (a
//! failing one undoes itself only), commits once, tells the followers, and then answers all of them. So the
//! sync of the disk is shared by all who log in at the same moment, and nobody is answered before it.

use std::{
    io,
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    thread::{Builder, JoinHandle, current},
};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::oneshot;

use super::{
    StoreError, StoreResult,
    feed::{Feed, Followers},
    lock::FileLock,
};

/// Most commands that wait for a thread; more are refused at once, for then the disk has stalled.
const QUEUE: usize = 4096;
/// Most commands in one transaction.
const GROUP: usize = 256;

/// Reads and answers.
type Query = Box<dyn FnOnce(&Connection) + Send>;

/// The thread that writes.
pub(super) struct Writer(Thread<Box<dyn Command>>);

/// The thread that reads.
pub(super) struct Reader(Thread<Query>);

impl Writer {
    /// Takes the connection, and the lock on its file: both go when the thread ends.
    pub(super) fn start(mut connection: Connection, lock: FileLock) -> io::Result<Self> {
        let thread = Thread::start("store-writer", move |commands: Receiver<Box<dyn Command>>| {
            let mut followers = Followers::default();
            while let Ok(first) = commands.recv() {
                let mut group = vec![first];
                group.extend(commands.try_iter().take(GROUP));
                commit(&mut connection, &mut followers, group);
            }
            drop(connection);
            drop(lock);
        });
        thread.map(Self)
    }

    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection, &mut Feed) -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Box::new(Task { work: Some(work), result: None, reply }))?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }
}

impl Reader {
    pub(super) fn start(connection: Connection) -> io::Result<Self> {
        let thread = Thread::start("store-reader", move |commands: Receiver<Query>| {
            while let Ok(command) = commands.recv() {
                // One transaction for each: its statements see one snapshot. Where it cannot be opened,
                // the command's own statements fail and say so.
                match connection.unchecked_transaction() {
                    Ok(tx) => command(&tx),
                    Err(_) => command(&connection),
                }
            }
        });
        thread.map(Self)
    }

    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Box::new(move |connection| {
            // Whoever asked may be gone; nothing was changed then.
            let _ = reply.send(work(connection));
        }))?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }
}

/// A named thread and the way to it; ended and waited for when dropped.
struct Thread<C> {
    commands: Option<SyncSender<C>>,
    handle: Option<JoinHandle<()>>,
}

impl<C: Send + 'static> Thread<C> {
    fn start(name: &str, body: impl FnOnce(Receiver<C>) + Send + 'static) -> io::Result<Self> {
        let (commands, inbox) = sync_channel(QUEUE);
        let handle = Builder::new().name(name.to_owned()).spawn(move || body(inbox))?;
        Ok(Self { commands: Some(commands), handle: Some(handle) })
    }

    fn send(&self, command: C) -> StoreResult<()> {
        let sent = self.commands.as_ref().ok_or_else(stopped)?.try_send(command);
        sent.map_err(|error| match error {
            TrySendError::Full(_) => StoreError(format!("overloaded: {QUEUE} commands are waiting")),
            TrySendError::Disconnected(_) => stopped(),
        })
    }
}

impl<C> Drop for Thread<C> {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(handle) = self.handle.take()
            && handle.thread().id() != current().id()
        {
            // A panic there was reported by the panic hook.
            let _ = handle.join();
        }
    }
}

/// One command for the writer.
trait Command: Send {
    /// Does the work; false undoes it.
    fn run(&mut self, connection: &Connection, feed: &mut Feed) -> bool;
    /// Tells the caller, once it is known whether the transaction was committed.
    fn answer(self: Box<Self>, committed: StoreResult<()>);
}

struct Task<T, W> {
    work: Option<W>,
    result: Option<StoreResult<T>>,
    reply: oneshot::Sender<StoreResult<T>>,
}

impl<T, W> Command for Task<T, W>
where
    T: Send,
    W: FnOnce(&Connection, &mut Feed) -> StoreResult<T> + Send,
{
    fn run(&mut self, connection: &Connection, feed: &mut Feed) -> bool {
        let result = self.work.take().map(|work| work(connection, feed));
        let fine = matches!(result, Some(Ok(_)));
        self.result = result;
        fine
    }

    fn answer(self: Box<Self>, committed: StoreResult<()>) {
        let result = match (self.result, committed) {
            (Some(Err(error)), _) | (_, Err(error)) => Err(error),
            (Some(Ok(value)), Ok(())) => Ok(value),
            (None, Ok(())) => Err(stopped()),
        };
        // Whoever asked may be gone; what was done stays done.
        let _ = self.reply.send(result);
    }
}

fn commit(connection: &mut Connection, followers: &mut Followers, mut group: Vec<Box<dyn Command>>) {
    let mut feed = Feed::default();
    let committed = run_all(connection, &mut group, &mut feed);
    if committed.is_ok() {
        followers.tell(feed);
    }
    for command in group {
        command.answer(committed.clone());
    }
}

fn run_all(connection: &mut Connection, group: &mut [Box<dyn Command>], feed: &mut Feed) -> StoreResult<()> {
    let mut tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for command in group {
        let mark = feed.mark();
        let savepoint = tx.savepoint()?;
        if command.run(&savepoint, feed) {
            savepoint.commit()?;
        } else {
            feed.forget_from(mark);
            // Some failures (disk full, I/O) have ended the whole transaction already: then nothing more may
            // run, for it would be committed by itself.
            if savepoint.is_autocommit() {
                return Err(StoreError("the transaction was undone by a failure in it".to_owned()));
            }
            savepoint.finish()?;
        }
    }
    Ok(tx.commit()?)
}

fn stopped() -> StoreError {
    StoreError("the store has stopped".to_owned())
}
