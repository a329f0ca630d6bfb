//! Drawings of plans.

use drpipe::config::{dot, mermaid};

use super::support::*;

fn text() -> String {
    with_stagers(
        r#"{"name": "A \"<b>\" ]", "class": "Pass", "nb_thread": 2,
            "next_steps": ["OUT", "A \"<b>\" ]"], "feedback": ["A \"<b>\" ]"]}"#,
    )
    .replace("\"Count\"", r#""Count", "next_steps": "A \"<b>\" ]""#)
}

#[test]
fn a_plan_is_drawn_for_graphviz() {
    let expected = "digraph pipeline {\n  rankdir=LR;\n  node [shape=box];\n  \
        s0 [label=\"IN\\nCount\\n1 worker\"];\n  \
        s1 [label=\"A \\\"<b>\\\" ]\\nPass\\n2 workers\"];\n  \
        s2 [label=\"OUT\\nSum\\n1 worker\"];\n  \
        s0 -> s1;\n  s1 -> s2;\n  s1 -> s1 [style=dashed, constraint=false];\n}\n";
    assert_eq!(dot(&good(&text()).0), expected);
}

#[test]
fn a_plan_is_drawn_for_mermaid() {
    let expected = "flowchart LR\n  s0[\"IN<br/>Count<br/>1 worker\"]\n  \
        s1[\"A #34;#60;b#62;#34; #93;<br/>Pass<br/>2 workers\"]\n  \
        s2[\"OUT<br/>Sum<br/>1 worker\"]\n  s0 --> s1\n  s1 --> s2\n  s1 -.-> s1\n";
    assert_eq!(mermaid(&good(&text()).0), expected);
}
