//! Names to addresses, in a bounded number of threads, with a cache.
//!
//! The system's resolver (`getaddrinfo`) blocks, and may do so for tens of seconds while a name server does not answer. So it
//! has a few threads of its own, which never hold up the end of the process; a name that is being looked up is not looked
//! up a second time; and a name server that is slow or silent is not waited for while addresses of a few minutes ago are known.
//!
//! `getaddrinfo` does not tell how long an answer holds: the configuration does.

use parking_lot::{Condvar, Mutex};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Look-ups at the same time. Each takes a thread that waits.
const THREADS: usize = 8;
/// The stack of a thread; modules of the name service switch are not small.
const STACK: usize = 512 * 1024;
/// Names that may wait for a thread.
const MAX_QUEUED: usize = 256;
/// Names that are kept. More than that are only there after reloads that changed many.
const MAX_NAMES: usize = 1024;
/// How long addresses are good enough while the name server does not answer.
const MAX_STALE: Duration = Duration::from_secs(10 * 60);
/// How long a client waits for new addresses while old ones are known.
const REFRESH_TIMEOUT: Duration = Duration::from_millis(200);
/// How long a failure is the answer.
const FAILURE_TTL: Duration = Duration::from_secs(1);

/// The addresses of a name, in the order in which they are to be tried; or why there are none.
pub(super) type Answer = Result<Arc<[IpAddr]>, Arc<io::Error>>;

type LookUp = fn(&str) -> io::Result<Vec<IpAddr>>;

/// Looks up names.
pub(super) struct Resolver {
    state: Mutex<State>,
    /// A name was queued.
    queued: Condvar,
    look_up: LookUp,
}

#[derive(Default)]
struct State {
    names: HashMap<Arc<str>, Name>,
    queue: VecDeque<Arc<str>>,
    threads: usize,
    idle: usize,
}

/// What is known of a name.
#[derive(Default)]
struct Name {
    addresses: Option<(Arc<[IpAddr]>, Instant)>,
    failure: Option<(Arc<io::Error>, Instant)>,
    /// Those who wait for the look-up that is under way or queued.
    waiting: Option<Vec<oneshot::Sender<Answer>>>,
}

/// The one of this process: its threads outlive a reload, and the runtimes.
pub(super) fn system() -> &'static Arc<Resolver> {
    static SYSTEM: LazyLock<Arc<Resolver>> = LazyLock::new(|| Resolver::new(get_address_info));
    &SYSTEM
}

fn get_address_info(name: &str) -> io::Result<Vec<IpAddr>> {
    Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
}

impl Resolver {
    fn new(look_up: LookUp) -> Arc<Self> {
        Arc::new(Resolver { state: Mutex::default(), queued: Condvar::new(), look_up })
    }

    /// The addresses of `name`, at most `ttl` old where the name server answers.
    ///
    /// Dropping the future leaves the look-up to those who come next.
    pub(super) async fn resolve(self: &Arc<Self>, name: &str, ttl: Duration) -> Answer {
        if let Ok(literal) = name.parse() {
            return Ok([literal].into());
        }
        let (answer, stale) = match self.ask(name, ttl) {
            Asked::Known(answer) => return answer,
            Asked::Waiting(answer, stale) => (answer, stale),
        };
        let lost = |_| Err(Arc::new(io::Error::other("the look-up was given up")));
        match stale {
            None => answer.await.unwrap_or_else(lost),
            Some(stale) => match tokio::time::timeout(REFRESH_TIMEOUT, answer).await {
                Ok(Ok(Ok(addresses))) => Ok(addresses),
                _ => Ok(stale),
            },
        }
    }

    fn ask(self: &Arc<Self>, name: &str, ttl: Duration) -> Asked {
        let mut state = self.state.lock();
        let now = Instant::now();
        if state.names.len() >= MAX_NAMES {
            state.names.retain(|_, name| name.is_usable(now));
        }
        let known = state.names.entry(name.into()).or_default();
        let aged = known.addresses.as_ref().map(|(addresses, at)| (addresses, now.duration_since(*at)));
        let stale = match aged {
            Some((addresses, age)) if age < ttl => return Asked::Known(Ok(addresses.clone())),
            Some((addresses, age)) if age < MAX_STALE => Some(addresses.clone()),
            _ => None,
        };
        if let Some((failure, at)) = &known.failure
            && now.duration_since(*at) < FAILURE_TTL
        {
            return Asked::Known(stale.ok_or_else(|| failure.clone()));
        }
        let (sender, receiver) = oneshot::channel();
        if let Some(waiting) = &mut known.waiting {
            // Those who gave up in the meantime are not kept.
            waiting.retain(|other| !other.is_closed());
            waiting.push(sender);
            return Asked::Waiting(receiver, stale);
        }
        if state.queue.len() >= MAX_QUEUED {
            let busy = io::Error::other("too many names are being looked up");
            return Asked::Known(stale.ok_or_else(|| Arc::new(busy)));
        }
        let name: Arc<str> = name.into();
        if let Some(known) = state.names.get_mut(&name) {
            known.waiting = Some(vec![sender]);
        }
        state.queue.push_back(name);
        if state.idle < state.queue.len() && state.threads < THREADS {
            state.threads += 1;
            let resolver = self.clone();
            let thread = std::thread::Builder::new().name("resolver".into()).stack_size(STACK);
            if thread.spawn(move || resolver.run()).is_err() {
                // Another thread, now or with the next name.
                state.threads -= 1;
            }
        }
        self.queued.notify_one();
        Asked::Waiting(receiver, stale)
    }

    /// One thread: looks up one name after the other, for ever.
    fn run(&self) {
        let mut state = self.state.lock();
        loop {
            let Some(name) = state.queue.pop_front() else {
                state.idle += 1;
                self.queued.wait(&mut state);
                state.idle -= 1;
                continue;
            };
            drop(state);
            let found: Answer = match (self.look_up)(&name) {
                Ok(addresses) if addresses.is_empty() => Err(Arc::new(io::ErrorKind::NotFound.into())),
                Ok(addresses) => Ok(addresses.into()),
                Err(failure) => Err(Arc::new(failure)),
            };
            state = self.state.lock();
            let now = Instant::now();
            if let Some(known) = state.names.get_mut(&name) {
                match &found {
                    Ok(addresses) => {
                        (known.addresses, known.failure) = (Some((addresses.clone(), now)), None)
                    }
                    Err(failure) => known.failure = Some((failure.clone(), now)),
                }
                for waiting in known.waiting.take().into_iter().flatten() {
                    // Who gave up hears nothing.
                    let _ = waiting.send(found.clone());
                }
            }
        }
    }
}

enum Asked {
    Known(Answer),
    /// With addresses that will do if it takes long.
    Waiting(oneshot::Receiver<Answer>, Option<Arc<[IpAddr]>>),
}

impl Name {
    fn is_usable(&self, now: Instant) -> bool {
        let fresh = |at: &Instant| now.duration_since(*at) < MAX_STALE;
        self.waiting.is_some() || self.addresses.as_ref().is_some_and(|(_, at)| fresh(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    const TTL: Duration = Duration::from_secs(60);
    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    #[tokio::test]
    async fn a_literal_address_asks_nobody() {
        let resolver = Resolver::new(|_| panic!("nobody is to be asked"));
        assert_eq!(*resolver.resolve("192.0.2.1", TTL).await.unwrap(), [ADDRESS]);
        assert_eq!(resolver.resolve("::1", TTL).await.unwrap().len(), 1);
        assert_eq!(resolver.state.lock().threads, 0);
    }

    #[tokio::test]
    async fn equal_names_are_looked_up_once_and_kept_as_long_as_configured() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let resolver = Resolver::new(|name| {
            assert_eq!(name, "api.example");
            std::thread::sleep(Duration::from_millis(50));
            ASKED.fetch_add(1, SeqCst);
            Ok(vec![ADDRESS])
        });
        let all: Vec<_> = (0..100)
            .map(|_| {
                let resolver = resolver.clone();
                tokio::spawn(async move { resolver.resolve("api.example", TTL).await.unwrap() })
            })
            .collect();
        for one in all {
            assert_eq!(*one.await.unwrap(), [ADDRESS]);
        }
        assert_eq!(ASKED.load(SeqCst), 1);
        assert!(resolver.resolve("api.example", TTL).await.is_ok());
        assert_eq!(ASKED.load(SeqCst), 1);
        assert!(resolver.resolve("api.example", Duration::ZERO).await.is_ok());
        assert_eq!(ASKED.load(SeqCst), 2);
    }

    #[tokio::test]
    async fn a_failure_is_told_and_not_asked_for_again_at_once() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let resolver = Resolver::new(|_| {
            ASKED.fetch_add(1, SeqCst);
            Err(io::Error::other("no such name"))
        });
        for _ in 0..10 {
            let failure = resolver.resolve("gone.example", TTL).await.unwrap_err();
            assert!(failure.to_string().contains("no such name"));
        }
        assert_eq!(ASKED.load(SeqCst), 1);
    }

    #[tokio::test]
    async fn name_servers_that_hang_cost_a_few_threads_and_a_bounded_queue() {
        let resolver = Resolver::new(|_| {
            loop {
                std::thread::park();
            }
        });
        let ask = |n: usize| {
            let resolver = resolver.clone();
            async move {
                let name = format!("{n}.example");
                tokio::time::timeout(Duration::from_millis(50), resolver.resolve(&name, TTL)).await
            }
        };
        let all: Vec<_> = (0..2_000).map(|n| tokio::spawn(ask(n % 400))).collect();
        let mut refused = 0;
        for one in all {
            refused += usize::from(matches!(one.await.unwrap(), Ok(Err(_))));
        }
        let state = resolver.state.lock();
        assert_eq!(state.threads, THREADS);
        assert!((MAX_QUEUED - THREADS..=MAX_QUEUED).contains(&state.queue.len()));
        assert!(refused > 0, "all names had a place");
    }

    #[tokio::test]
    async fn addresses_of_before_serve_while_the_name_server_hangs() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let resolver = Resolver::new(|_| {
            if ASKED.fetch_add(1, SeqCst) > 0 {
                std::thread::sleep(Duration::from_secs(3600));
            }
            Ok(vec![ADDRESS])
        });
        resolver.resolve("api.example", TTL).await.unwrap();
        for _ in 0..3 {
            let began = Instant::now();
            assert_eq!(*resolver.resolve("api.example", Duration::ZERO).await.unwrap(), [ADDRESS]);
            assert!(began.elapsed() < REFRESH_TIMEOUT * 5);
        }
        assert_eq!(ASKED.load(SeqCst), 2);
    }
}
