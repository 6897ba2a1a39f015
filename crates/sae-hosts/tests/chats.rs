//! Chats written out as transformers writes them, and which parts of them count.

use sae_config::{ChatConfig, CorpusConfig};
use sae_hosts::HostModel;
use sae_hosts::corpus::{self, Content};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::corpora::{config, expected, file, tokenizer};
use crate::support::smollm2;

/// The chats of the test data, read with a choice of roles.
fn two_chats(chat: ChatConfig) -> CorpusConfig {
    CorpusConfig { chat: Some(chat), ..config(&file("chats.jsonl")) }
}

/// One chat in a file of JSON lines.
fn one_chat(folder: &TempDir, messages: &Value, chat: ChatConfig) -> CorpusConfig {
    let path = folder.path().join("chats.jsonl");
    std::fs::write(&path, json!({"messages": messages}).to_string()).unwrap();
    CorpusConfig { chat: Some(chat), ..config(&path) }
}

fn contents(config: &CorpusConfig, template: &str) -> Result<Vec<Content>, String> {
    let opened = corpus::open(config, &tokenizer(Some(template)));
    let mut documents = opened.map_err(|error| error.to_string())?;
    let mut contents = Vec::new();
    while let Some(document) = documents.next().map_err(|error| error.to_string())? {
        contents.push(document.content);
    }
    Ok(contents)
}

fn with_roles(roles: &[&str]) -> ChatConfig {
    let roles = roles.iter().map(|role| (*role).to_owned()).collect();
    ChatConfig { roles, ..ChatConfig::default() }
}

#[test]
fn chats_are_written_out_as_by_transformers() {
    let expected = expected();
    let config = two_chats(ChatConfig::default());
    let cases = expected["rendered"].as_array().unwrap();
    assert_eq!(cases.len(), 4);
    for case in cases.iter().filter(|case| case.get("template").is_some()) {
        let texts: Vec<String> = serde_json::from_value(case["texts"].clone()).unwrap();
        let texts: Vec<Content> = texts.into_iter().map(Content::Text).collect();
        let template = case["template"].as_str().unwrap();
        assert_eq!(contents(&config, template).unwrap(), texts, "{}", case["name"]);
    }
    // From a column of Parquet too.
    let case = &cases[0];
    let columns = CorpusConfig {
        chat: Some(ChatConfig::default()),
        ..crate::corpora::config(&file("zstd.parquet"))
    };
    let got = contents(&columns, case["template"].as_str().unwrap()).unwrap();
    assert_eq!(got.len(), 23);
    for (n, content) in got.into_iter().enumerate() {
        assert_eq!(content, Content::Text(case["texts"][n % 2].as_str().unwrap().to_owned()));
    }
}

#[test]
fn the_template_of_the_real_host_is_followed() {
    let host = HostModel::load(&smollm2(), tch::Device::Cpu).unwrap();
    let expected = expected();
    let config = two_chats(with_roles(&["assistant"]));
    let mut documents = corpus::open(&config, host.tokenizer().unwrap()).unwrap();
    let case =
        expected["rendered"].as_array().unwrap().iter().find(|case| case["name"] == "smollm2");
    for (expected, said) in case.unwrap()["texts"]
        .as_array()
        .unwrap()
        .iter()
        .zip([vec!["True.", "Bye"], vec!["im_end"]])
    {
        let Content::Parts { text, counted } = documents.next().unwrap().unwrap().content else {
            panic!("parts of a chat")
        };
        assert_eq!(text, expected.as_str().unwrap());
        assert_eq!(counted.into_iter().map(|part| &text[part]).collect::<Vec<_>>(), said);
    }
}

#[test]
fn roles_that_count_are_marked_by_what_they_say() {
    let expected = expected();
    for case in expected["rendered"].as_array().unwrap().iter().take(2) {
        for (roles, said) in [
            (vec!["assistant"], [vec!["True.", "Bye"], vec!["im_end"]]),
            (vec!["user"], [vec!["What is 2 < 3?", "Thanks"], vec!["Hi"]]),
            (vec!["system", "user"], [vec!["Be brief.", "What is 2 < 3?", "Thanks"], vec!["Hi"]]),
            (vec!["nobody"], [vec![], vec![]]),
        ] {
            let config = two_chats(with_roles(&roles));
            let got = contents(&config, case["template"].as_str().unwrap()).unwrap();
            for (n, (content, said)) in got.into_iter().zip(said).enumerate() {
                let Content::Parts { text, counted } = content else { panic!("parts of a chat") };
                assert_eq!(text, case["texts"][n].as_str().unwrap());
                let parts: Vec<&str> = counted.into_iter().map(|part| &text[part]).collect();
                assert_eq!(parts, said, "{} {roles:?}", case["name"]);
            }
        }
    }
}

#[test]
fn what_a_template_does_not_take_is_named_with_its_line() {
    let folder = TempDir::new().unwrap();
    let chat = json!([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]);
    let config = one_chat(&folder, &chat, ChatConfig::default());
    let error = |template: &str| contents(&config, template).unwrap_err();
    let strict = "\n{% if messages | length > 1 %}\n{{ raise_exception('One alone') }}{% endif %}";
    let message = error(strict);
    assert!(message.contains("chats.jsonl: chats.jsonl document 0: "), "{message}");
    assert!(message.ends_with("got line 3 of the template: One alone"), "{message}");
    let message = error("a\n{% if %}");
    assert!(
        message.contains("tokenizer_config.json: chat_template: expected a template"),
        "{message}"
    );
    assert!(message.contains("line 2 of the template"), "{message}");
    assert!(error("{{ strftime_now('%Y') }}").contains("`chat.date` has to name"));
    assert!(error("{{ messages }}").contains("written as Python writes it"));
    assert!(error("{{ 'é' | tojson(ensure_ascii=true) }}").contains("`ensure_ascii`"));
    assert!(error("{{ 'é' | tojson(sort_keys=true) }}").contains("sort_keys"));
    let dated = ChatConfig { date: Some("2025-03-01".to_owned()), ..ChatConfig::default() };
    let dated = CorpusConfig { chat: Some(dated), ..config.clone() };
    let got = contents(&dated, "{{ strftime_now('%d %b %Y') }}").unwrap();
    assert_eq!(got, [Content::Text("01 Mar 2025".to_owned())]);

    let named = ChatConfig { template: Some("rag".to_owned()), ..ChatConfig::default() };
    let named = CorpusConfig { chat: Some(named), ..config.clone() };
    let message = contents(&named, "x").unwrap_err();
    assert_eq!(message, "chat: expected a host with a chat template `rag`, got `default`");
    let none = corpus::open(&config, &tokenizer(None)).map(|_| ()).unwrap_err().to_string();
    assert_eq!(none, "chat: expected a host with a chat template `default`, got none");

    let twice = contents(
        &one_chat(&folder, &chat, with_roles(&["user"])),
        "{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}",
    );
    assert!(twice.unwrap_err().contains("writes a message's content in one place"));
    let other = json!([{"from": "human", "value": "a"}]);
    let message = contents(&one_chat(&folder, &other, ChatConfig::default()), "x").unwrap_err();
    assert!(
        message.ends_with("expected messages with a text `role`, got `from`, `value`"),
        "{message}"
    );
}

/// Writes contents, parts of them and calls of tools.
const WITH_TOOLS: &str = "{% for m in messages %}<{{ m.role }}>\
    {% if m.content is string %}{{ m.content }}{% else %}\
    {% for part in m.content or [] %}{{ part.text or '<image>' }}{% endfor %}{% endif %}\
    {% for call in m.tool_calls or [] %}<call>{{ call.name }}{% endfor %}{% endfor %}";

#[test]
fn text_beside_the_content_of_what_counts_is_refused_by_name() {
    let folder = TempDir::new().unwrap();
    let calls = json!([{"name": "search"}]);
    let read = |assistant: &Value, roles: &[&str]| {
        let chat = json!([{"role": "user", "content": "a", "id": 7}, assistant]);
        contents(&one_chat(&folder, &chat, with_roles(roles)), WITH_TOOLS)
    };
    let called = json!({"role": "assistant", "content": "b", "tool_calls": calls});
    // Where everything counts, or another role does, the text is read as it is written.
    let text = "<user>a<assistant>b<call>search";
    assert_eq!(read(&called, &[]).unwrap(), [Content::Text(text.to_owned())]);
    let of_user =
        Content::Parts { text: text.to_owned(), counted: std::iter::once(6..7).collect() };
    assert_eq!(read(&called, &["user"]).unwrap(), [of_user]);
    for content in [json!("b"), Value::Null] {
        let called = json!({"role": "assistant", "content": content, "tool_calls": calls});
        let message = read(&called, &["assistant"]).unwrap_err();
        assert!(
            message.ends_with("got one that writes `tool_calls` of message 1 too"),
            "{message}"
        );
    }
    // What the template does not write is no text.
    for beside in [json!({"tool_calls": null}), json!({"tool_calls": []}), json!({"score": 3})] {
        let mut said = json!({"role": "assistant", "content": "b", "name": "x"});
        said.as_object_mut().unwrap().extend(beside.as_object().unwrap().clone());
        let expected = Content::Parts {
            text: "<user>a<assistant>b".to_owned(),
            counted: std::iter::once(18..19).collect(),
        };
        assert_eq!(read(&said, &["assistant"]).unwrap(), [expected], "{beside}");
    }
}

#[test]
fn parts_of_a_content_that_are_no_text_are_refused_by_name() {
    let folder = TempDir::new().unwrap();
    let read = |content: Value| {
        let chat = json!([{"role": "user", "content": content}]);
        contents(&one_chat(&folder, &chat, ChatConfig::default()), WITH_TOOLS)
    };
    let parts = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
    assert_eq!(read(parts).unwrap(), [Content::Text("<user>ab".to_owned())]);
    for (part, got) in [
        (json!({"type": "image"}), "got a part of type `image`"),
        (json!({"image": "x"}), "got a part of `image`"),
        (json!(3), "got 3 among its parts"),
    ] {
        let message = read(json!([{"type": "text", "text": "a"}, part])).unwrap_err();
        assert!(message.ends_with(got), "{message}");
    }
}
