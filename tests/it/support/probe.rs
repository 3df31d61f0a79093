//! When a store itself could serve again: asked directly, beside whoever else uses it.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Between two questions.
const EVERY: Duration = Duration::from_millis(20);

/// Asks a store again and again whether it acknowledges a write; ends with the test.
pub struct Probe {
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    able_since: Option<Instant>,
    breaks: usize,
}

impl Probe {
    /// Asks by `acknowledges`, which says no when it is not sure.
    pub fn start(acknowledges: impl Fn() -> bool + Send + 'static) -> Self {
        let (state, stop) = (Arc::<Mutex<State>>::default(), Arc::new(AtomicBool::new(false)));
        let (told, stopped) = (Arc::clone(&state), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                // It could when it was asked, not only when the answer was there.
                let asked = Instant::now();
                let able = acknowledges();
                let mut state = told.lock().unwrap();
                match (able, state.able_since) {
                    (true, None) => state.able_since = Some(asked),
                    (false, Some(_)) => {
                        state.able_since = None;
                        state.breaks += 1;
                    }
                    _ => {}
                }
                drop(state);
                std::thread::park_timeout(EVERY);
            }
        });
        Self { state, stop, thread: Some(thread) }
    }

    /// Since when it has been able to, without a break; `None` while it is not.
    pub fn able_since(&self) -> Option<Instant> {
        self.state.lock().unwrap().able_since
    }

    /// How often it could no longer.
    pub fn breaks(&self) -> usize {
        self.state.lock().unwrap().breaks
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
