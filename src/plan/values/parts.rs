//! Values that are read by themselves, member by member.

use serde_json::{Value, json};

use crate::plan::keys::Form;

/// Where the published schema describes a step.
const STEP: &str = "#/$defs/step";

/// Declares forms of values that are read elsewhere, member by member.
macro_rules! parts {
    ($(
        $(#[$about:meta])+
        $Form:ident: $type:literal, $expected:literal $(, published as $published:tt)?;
    )+) => {$(
        $(#[$about])+
        pub(crate) struct $Form;

        impl Form for $Form {
            type Value = ();
            const EXPECTED: &'static str = $expected;

            fn schema() -> Value {
                json!({"type": $type})
            }

            $(fn published() -> Value {
                json!($published)
            })?

            fn read(_: &Value) -> Option<()> {
                Some(())
            }
        }
    )+};
}

parts! {
    /// The step that produces the messages.
    FirstStep: "object", "an object, the first step", published as {"$ref": STEP};
    /// The steps between.
    StepList: "array", "a list of objects, one per step",
        published as {"type": "array", "items": {"$ref": STEP}};
    /// The step at the end.
    LastStep: "object", "an object, the last step", published as {"$ref": STEP};
    /// An object around the steps.
    Steps: "object", "an object with the steps";
    /// The parameters of a class.
    Parameters: "object", "an object";
}
