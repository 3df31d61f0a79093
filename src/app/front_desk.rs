//! The administrators' pages, as they follow from the present configuration.

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;

use super::build::{Built, Lasting};
use crate::admin::{
    desk::{self, Desk},
    operations::Operations,
};

/// The pages that are served, and what they are made anew from.
pub(super) struct FrontDesk {
    desk: Desk,
    insecure: bool,
    current: Arc<ArcSwap<Router>>,
}

impl FrontDesk {
    /// Opens it. `insecure`: the listener speaks plain http, on loopback.
    pub fn open(lasting: &Lasting, built: &Built, acts: &Arc<Operations>, insecure: bool) -> Self {
        let desk = Desk::new(
            built.desk_pages(lasting, insecure),
            Arc::clone(acts),
            Arc::clone(&lasting.store),
            Arc::clone(&lasting.live),
            Arc::clone(&lasting.random),
        );
        let current = Arc::new(ArcSwap::from_pointee(desk::router(desk.clone())));
        Self { desk, insecure, current }
    }

    /// What the listener serves.
    pub fn door(&self) -> Router {
        desk::door(Arc::clone(&self.current))
    }

    /// The configuration has changed.
    pub fn replace(&self, lasting: &Lasting, built: &Built) {
        let desk = self.desk.with_pages(built.desk_pages(lasting, self.insecure));
        self.current.store(Arc::new(desk::router(desk)));
    }
}
