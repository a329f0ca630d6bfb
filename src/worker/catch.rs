//! Turns panics of stages into failures.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Once;

use crate::base::failure::{Failure, Result};

/// A panic that was caught, with its message and source location.
pub(crate) struct Caught(pub(crate) Failure);

thread_local! {
    static IN_STAGE: Cell<bool> = const { Cell::new(false) };
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Calls a stage's code, and catches a panic in it.
///
/// # Errors
/// If the code panics. A failure that the code returns is the inner result.
pub(crate) fn guarded<R>(
    call: impl FnOnce() -> Result<R>,
) -> std::result::Result<Result<R>, Caught> {
    install_hook();
    let outer = IN_STAGE.replace(true);
    let result = catch_unwind(AssertUnwindSafe(call));
    IN_STAGE.set(outer);
    result.map_err(|payload| {
        // The payload's destructor may panic, so it is leaked.
        std::mem::forget(payload);
        let message = PANIC.take().unwrap_or_else(|| "panicked".into());
        Caught(Failure::retryable(message))
    })
}

/// Installs a panic hook that keeps the message and location of a stage's panic instead of
/// printing them: they are reported as the failure of the message. Other panics go to the
/// previous hook.
fn install_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if IN_STAGE.get() {
                PANIC.set(Some(describe(info)));
            } else {
                before(info);
            }
        }));
    });
}

fn describe(info: &PanicHookInfo<'_>) -> String {
    let message = info.payload_as_str().unwrap_or("a panic without a message");
    match info.location() {
        Some(at) => format!("panicked at {}:{}: {message}", at.file(), at.line()),
        None => format!("panicked: {message}"),
    }
}
