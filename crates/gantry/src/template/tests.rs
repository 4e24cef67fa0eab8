//! Templates as data.

use super::{Template, Value};

const IMAGE: &str = r#"{"Id":"sha256:ab","RepoTags":["a:1","b:2"],"Size":231,"Config":{"Labels":{"org.x":"y","k":"v"},
    "Cmd":["sh","-c"],"Env":null,"User":""},"Parent":"","Ratio":1.5,"On":true}"#;

fn check(template: &str, expect: &str) {
    let value: Value = serde_json::from_str(IMAGE).unwrap();
    let got = match Template::parse(template).and_then(|template| template.render(&value)) {
        Ok(text) => text,
        Err(error) => format!("!{error}").replace("template parsing error: template: ", ""),
    };
    assert_eq!(got, expect, "{template}");
}

#[test]
fn fields_and_texts() {
    check("plain", "plain");
    check("{{.Id}}", "sha256:ab");
    check("<{{ .Size }}>\n", "<231>\n");
    check("{{.Config.Cmd}}", "[sh -c]");
    check("{{.Config.Labels}}", "map[k:v org.x:y]");
    check("{{.Config.Labels.k}} {{.Config.Labels.none}}", "v <no value>");
    check("{{.Config.Env}} {{.On}} {{.Ratio}}", "<no value> true 1.5");
    check("{{$.Id}} {{(index .RepoTags 1)}}", "sha256:ab b:2");
    check("a {{- .Size -}} b", "a231b");
    check("a {{/* no */}} b{{- /* trim */ -}} c", "a  bc");
    check("{{`raw \"x\"`}}{{\"t\\tn\\\"\"}}", "raw \"x\"t\tn\"");
}

#[test]
fn functions() {
    check("{{json .RepoTags}} {{json .Config.Env}} {{.Size | json}}", r#"["a:1","b:2"] null 231"#);
    check("{{json .Config}}", r#"{"Labels":{"org.x":"y","k":"v"},"Cmd":["sh","-c"],"Env":null,"User":""}"#);
    check(r#"{{join .RepoTags ","}} {{index .Config.Labels "org.x"}}{{index .Config.Labels "none"}}"#, "a:1,b:2 y");
    check(r#"{{(split .Id ":")}} {{index (split .Id ":") 1}}"#, "[sha256 ab] ab");
    check(r#"{{upper .Id}} {{lower "AB"}} {{title "ab cd"}}"#, "SHA256:AB ab Ab Cd");
    check(r#"<{{pad "x" 1 2}}> {{truncate .Id 6}} {{len .RepoTags}} {{slice .Id 7}}"#, "< x  > sha256 2 ab");
    check(
        r#"{{printf "%-5s|%5d|%05d|%q|%.2f|%x|%%" .Id .Size 7 "a" 1.5 255}}"#,
        "sha256:ab|  231|00007|\"a\"|1.50|ff|%",
    );
    check(r#"{{printf "%s"}}"#, "%!s(MISSING)");
    check(r#"{{print 1 2 "a" 3}} {{println "x"}}"#, "1 2a3 x\n");
    check("{{eq .Size 231}} {{ne .Size 231}} {{lt 1 2}} {{ge 1 2}} {{eq .Size 1 2 231}}", "true false true false true");
    check(
        "{{and .On .Size}} {{or .Parent .Id}} {{not .On}} {{and .Parent (index .RepoTags 9)}}",
        "231 sha256:ab false ",
    );
}

#[test]
fn blocks() {
    check("{{if .On}}y{{else}}n{{end}}{{if .Parent}}y{{end}}", "y");
    check("{{if .Parent}}a{{else if eq .Size 231}}b{{else}}c{{end}}", "b");
    check("{{range .RepoTags}}<{{.}}>{{end}}{{range .Config.Env}}x{{else}}none{{end}}", "<a:1><b:2>none");
    check("{{range $i, $t := .RepoTags}}{{if $i}},{{end}}{{$t}}{{end}}", "a:1,b:2");
    check("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}", "k=v;org.x=y;");
    check("{{with .Config}}{{.Cmd}}{{$.Size}}{{end}}{{with .Parent}}x{{else}}{{.Id}}{{end}}", "[sh -c]231sha256:ab");
    check("{{$x := .Size}}{{if .On}}{{$x = 1}}{{end}}{{$x}}", "1");
    check("{{range .RepoTags}}{{println .}}{{end}}", "a:1\nb:2\n");
}

#[test]
fn what_is_refused() {
    check("{{.Idd}}", "!:1: can't evaluate field Idd: there are Id, RepoTags, Size, Config, Parent, Ratio, On");
    check("\n{{.Id.x}}", "!:2: can't evaluate field x in a string");
    check("{{.Id", "!:1: unclosed action");
    check("{{foo .Id}}", "!:1: function \"foo\" not defined");
    check("{{if .Id}}", "!:1: unexpected EOF: {{end}} is missing");
    check("{{end}}", "!:1: unexpected {{end}}");
    check("{{else}}", "!:1: unexpected {{else}}");
    check("{{}}", "!:1: missing value for command");
    check("{{(.Id}}", "!:1: unclosed left paren");
    check("{{$y}}", "!:1: undefined variable \"$y\"");
    check("{{index .RepoTags 2}}", "!:1: error calling index: index out of range: 2");
    check("{{\"a", "!:1: unterminated quoted string");
    check("{{template \"x\"}}", "!:1: {{template}} is not supported");
    check("{{range .Id}}{{end}}", "!:1: range can't iterate over sha256:ab (a string)");
    check("{{.Id .Size}}", "!:1: can't give arguments to what is no function");
    check("{{lt .Id 1}}", "!:1: error calling lt: a string and an int have no order");
    check(&"{{if 1}}".repeat(100), "!:1: nested too deeply");
    check(&format!("{{{{{}}}}}", "(".repeat(100)), "!:1: nested too deeply");
    let long = "x".repeat(100_000);
    check(&long, "!:1: it has 100000 bytes, at most 65536 are read");
}

/// Whatever is typed, nothing panics.
#[test]
fn damaged_templates() {
    let good =
        r#"{{range $i, $t := .RepoTags}}{{if and $i (eq $t "é")}},{{- end -}}{{printf "%-5.2s" $t | json}}{{end}}"#;
    let value: Value = serde_json::from_str(IMAGE).unwrap();
    for at in (0..=good.len()).filter(|at| good.is_char_boundary(*at)) {
        for put in ["", "{{", "}}", "\"", "é", "$", "(", "%", ".", "-"] {
            let text = format!("{}{put}{}", &good[..at], &good[at..]);
            if let Ok(template) = Template::parse(&text) {
                let _ = template.render(&value);
            }
            if let Ok(template) = Template::parse(&text[..at + put.len()]) {
                let _ = template.titles(&value);
            }
        }
    }
}
