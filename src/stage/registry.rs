//! The classes that a configuration may name.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::data::{ANY, Data};
pub(crate) use super::erased::{Build, Task};
use super::erased::{ConsumerTask, ProducerTask, StageTask};
use super::{Consumer, Producer, Stage};
use crate::base::failure::{Failure, Result};
use crate::base::not_built::NotBuilt;

pub(crate) use super::erased::{build_consumer, build_producer, build_stage};

/// The position in a pipeline where a class may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Kind {
    /// At the start.
    Producer,
    /// In the middle, or at the end, where what it emits is dropped.
    Stage,
    /// At the end.
    Consumer,
}

impl Kind {
    /// The kind in lower case, as it stands in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Producer => "producer",
            Kind::Stage => "stage",
            Kind::Consumer => "consumer",
        }
    }
}

type BuildFrom = Arc<dyn Fn(&Value) -> Result<Box<dyn Task>> + Send + Sync>;

/// The declaration of a class, which the check reads and `drpipe stages` prints.
#[derive(Clone)]
pub struct Class {
    name: String,
    kind: Kind,
    input: Option<&'static str>,
    output: Option<&'static str>,
    singleton: bool,
    stateful: bool,
    acknowledges: bool,
    schema: Value,
    build: BuildFrom,
    foreign: bool,
    module: String,
    /// The type that implements it, if that is in this program.
    type_id: Option<TypeId>,
}

impl Class {
    /// What its trait says of it.
    pub(crate) fn traits(&self) -> Traits {
        let Self { kind, input, output, singleton, stateful, acknowledges, .. } = *self;
        Traits { kind, input, output, singleton, stateful, acknowledges }
    }

    /// The class [`CALLER`] at this place. Its parameters are the caller's alone.
    pub(crate) fn of_caller(kind: Kind) -> Self {
        let anything = json!({"type": "object", "additionalProperties": true});
        Self::foreign(CALLER, kind, false, false, anything)
    }

    /// A class whose workers are written in another language. It takes and emits values of
    /// any type.
    pub(crate) fn foreign(
        name: &str,
        kind: Kind,
        singleton: bool,
        stateful: bool,
        schema: Value,
    ) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            input: (kind != Kind::Producer).then_some(ANY),
            output: (kind != Kind::Consumer).then_some(ANY),
            singleton: singleton || kind == Kind::Producer,
            stateful,
            acknowledges: false,
            schema,
            build: Arc::new(|_| Err(Failure::permanent("its workers are not written in Rust"))),
            foreign: true,
            module: String::new(),
            type_id: None,
        }
    }

    /// As a producer, it is told what became of its items if it `acknowledges`.
    pub(crate) fn telling(mut self, acknowledges: bool) -> Self {
        self.acknowledges = acknowledges && self.kind == Kind::Producer;
        self
    }

    /// Whether its workers are written in another language.
    pub(crate) fn is_foreign(&self) -> bool {
        self.foreign
    }

    /// The module of the program that declares it, such as `numbers`. A configuration in
    /// ctapipe's layout may call it by this name where Python has no such class.
    pub(crate) fn module(&self) -> &str {
        &self.module
    }

    /// The name that a configuration gives as `class`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The position in a pipeline where it may stand.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The name of its input's type; `None` for a producer.
    pub fn input(&self) -> Option<&'static str> {
        self.input
    }

    /// The name of its output's type; `None` for a consumer.
    pub fn output(&self) -> Option<&'static str> {
        self.output
    }

    /// Whether a step may have only one worker of it.
    pub fn singleton(&self) -> bool {
        self.singleton
    }

    /// Whether it emits or writes in `finish` what it has kept of its messages.
    pub fn stateful(&self) -> bool {
        self.stateful
    }

    /// Whether it is a producer that is told what became of its items.
    pub fn acknowledges(&self) -> bool {
        self.acknowledges
    }

    /// The JSON Schema of its parameters, which are an object.
    pub fn schema(&self) -> &Value {
        &self.schema
    }

    /// Builds an instance without `init` and lets it validate its parameters.
    pub(crate) fn try_build(&self, params: &Value) -> Result<()> {
        (self.build)(params).map(drop)
    }

    /// The factory of instances with these parameters.
    pub(crate) fn with_params(&self, params: Value) -> Build {
        let build = Arc::clone(&self.build);
        Arc::new(move || build(&params))
    }
}

/// The classes by name.
#[derive(Clone, Default)]
pub struct Registry {
    classes: BTreeMap<String, Class>,
    lacking: BTreeMap<String, NotBuilt>,
    has_caller: bool,
}

/// The name of the class whose workers the caller provides, the program that starts the run.
pub(crate) const CALLER: &str = "Caller";

impl Registry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a producer under `name`; a class of that name is replaced.
    pub fn producer<P>(&mut self, name: &str)
    where
        P: Producer + DeserializeOwned + JsonSchema + 'static,
    {
        self.add::<P>(name, of_producer::<P>(), |params| {
            let producer: P = from_params(params)?;
            producer.validate()?;
            Ok(Box::new(ProducerTask(producer)))
        });
    }

    /// Adds a stage under `name`; a class of that name is replaced.
    pub fn stage<S>(&mut self, name: &str)
    where
        S: Stage + DeserializeOwned + JsonSchema + 'static,
    {
        self.add::<S>(name, of_stage::<S>(), |params| {
            let stage: S = from_params(params)?;
            stage.validate()?;
            Ok(Box::new(StageTask(stage)))
        });
    }

    /// Adds a consumer under `name`; a class of that name is replaced.
    pub fn consumer<C>(&mut self, name: &str)
    where
        C: Consumer + DeserializeOwned + JsonSchema + 'static,
    {
        self.add::<C>(name, of_consumer::<C>(), |params| {
            let consumer: C = from_params(params)?;
            consumer.validate()?;
            Ok(Box::new(ConsumerTask(consumer)))
        });
    }

    /// Names a class that this build lacks: the error for a configuration that names it says which
    /// `feature` has it.
    pub fn not_built(&mut self, name: &str, feature: &'static str) {
        self.lacking.insert(name.to_owned(), NotBuilt { feature });
    }

    /// What the class of this name needs, if it is not built in.
    pub(crate) fn lacks(&self, name: &str) -> Option<NotBuilt> {
        self.lacking.get(name).copied().filter(|_| !self.classes.contains_key(name))
    }

    /// Whether the name is that of a class, built in or not.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.classes.contains_key(name) || self.lacking.contains_key(name)
    }

    /// Makes `Caller` a class that steps may have: the program itself provides their workers. A
    /// program that reads a configuration can be its producer, with
    /// [`Pipeline::start_with_feed`](crate::pipeline::Pipeline::start_with_feed).
    pub fn let_callers_in(&mut self) {
        self.has_caller = true;
    }

    /// Whether steps may have the class [`CALLER`].
    pub(crate) fn has_caller(&self) -> bool {
        self.has_caller
    }

    /// The class of this name.
    pub fn get(&self, name: &str) -> Option<&Class> {
        self.classes.get(name)
    }

    /// The classes in alphabetical order.
    pub fn classes(&self) -> impl Iterator<Item = &Class> {
        self.classes.values()
    }

    /// The class that the type implements.
    pub(crate) fn class_of<T: 'static>(&self) -> Option<&Class> {
        self.classes.values().find(|class| class.type_id == Some(TypeId::of::<T>()))
    }

    fn add<T: JsonSchema + 'static>(
        &mut self,
        name: &str,
        traits: Traits,
        build: impl Fn(&Value) -> Result<Box<dyn Task>> + Send + Sync + 'static,
    ) {
        let class = Class {
            name: name.to_owned(),
            kind: traits.kind,
            input: traits.input,
            output: traits.output,
            singleton: traits.singleton,
            stateful: traits.stateful,
            acknowledges: traits.acknowledges,
            schema: schemars::schema_for!(T).to_value(),
            build: Arc::new(build),
            foreign: false,
            module: module_of::<T>().to_owned(),
            type_id: Some(TypeId::of::<T>()),
        };
        self.classes.insert(name.to_owned(), class);
    }
}

/// The declaration of a class, read off its trait.
pub(crate) struct Traits {
    pub(crate) kind: Kind,
    pub(crate) input: Option<&'static str>,
    pub(crate) output: Option<&'static str>,
    pub(crate) singleton: bool,
    pub(crate) stateful: bool,
    pub(crate) acknowledges: bool,
}

pub(crate) fn of_producer<P: Producer>() -> Traits {
    Traits {
        kind: Kind::Producer,
        input: None,
        output: Some(P::Out::TYPE),
        singleton: true,
        stateful: false,
        acknowledges: P::ACKNOWLEDGES,
    }
}

/// A producer that is a part of the program and emits values of this type.
pub(crate) fn of_feed<In: Data>() -> Traits {
    Traits {
        kind: Kind::Producer,
        input: None,
        output: Some(In::TYPE),
        singleton: true,
        stateful: false,
        acknowledges: true,
    }
}

pub(crate) fn of_stage<S: Stage>() -> Traits {
    Traits {
        kind: Kind::Stage,
        input: Some(S::In::TYPE),
        output: Some(S::Out::TYPE),
        singleton: S::SINGLETON,
        stateful: S::STATEFUL,
        acknowledges: false,
    }
}

pub(crate) fn of_consumer<C: Consumer>() -> Traits {
    Traits {
        kind: Kind::Consumer,
        input: Some(C::In::TYPE),
        output: None,
        singleton: C::SINGLETON,
        stateful: C::STATEFUL,
        acknowledges: false,
    }
}

/// The name of the innermost module that declares a type.
fn module_of<T>() -> &'static str {
    let path = std::any::type_name::<T>();
    let path = path.split_once('<').map_or(path, |(path, _)| path);
    let module = path.rsplit_once("::").map_or("", |(module, _)| module);
    module.rsplit_once("::").map_or(module, |(_, last)| last)
}

fn from_params<T: DeserializeOwned>(params: &Value) -> Result<T> {
    T::deserialize(params).map_err(|error| Failure::permanent(error.to_string()))
}
