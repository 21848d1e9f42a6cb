/* SPDX-License-Identifier: Apache-2.0 */
/* Draws openapi.json.  All text from it, and all answers, become text nodes; nothing is taken as HTML. */
"use strict";

const methods = ["get", "post", "put", "patch", "delete"];
const kept = {}; // values of parameters, so that they are typed once
let source;

/* An element with attributes and children; a string is a text, undefined nothing. */
function make(name, attributes, ...children) {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {}))
        if (value !== undefined)
            element.setAttribute(key, value);
    for (const child of children.flat())
        if (child !== undefined)
            element.append(child);
    return element;
}

function resolve(value) {
    if (!value || !value.$ref)
        return value;
    let found = source;
    for (const part of value.$ref.slice(2).split("/"))
        found = found[part];
    const merged = { ...found, ...value };
    delete merged.$ref;
    return merged;
}

/* `code` and *emphasis* as the descriptions have them. */
function words(text) {
    const pieces = (text || "").split(/(`[^`]*`|\*[^*]+\*)/);
    return pieces.filter(piece => piece).map(piece =>
        piece[0] === "`" ? make("code", {}, piece.slice(1, -1)) :
        piece[0] === "*" && piece.length > 2 ? make("em", {}, piece.slice(1, -1)) : piece);
}

function nameOf(reference) {
    return reference.split("/").pop();
}

/* A schema on one line; those with a name are named, and shown where one asks for them. */
function typeOf(schema) {
    if (schema === true || !schema || Object.keys(schema).length === 0)
        return "anything";
    if (schema.$ref)
        return nameOf(schema.$ref);
    if (schema.anyOf || schema.oneOf)
        return (schema.anyOf || schema.oneOf).map(typeOf).join(" or ");
    if (schema.const !== undefined)
        return JSON.stringify(schema.const);
    if (schema.enum)
        return schema.enum.map(value => JSON.stringify(value)).join(" or ");
    const types = [schema.type || "anything"].flat();
    return types.map(type => type === "array" ? `[${typeOf(schema.items)}]` : type).join(" or ");
}

function referencesOf(schema, found = new Set()) {
    for (const [key, value] of Object.entries(schema || {})) {
        if (key === "$ref")
            found.add(nameOf(value));
        else if (value && typeof value === "object")
            referencesOf(value, found);
    }
    return found;
}

/* The members of a schema; the schemas that it names are drawn when they are opened. */
function drawSchema(schema) {
    const bare = resolve(schema);
    const parts = [make("p", {}, words(bare.description), bare.properties ? undefined : ` (${typeOf(bare)})`)];
    if (bare.properties) {
        const rows = Object.entries(bare.properties).map(([name, member]) => make("tr", {},
            make("td", {}, make("code", {}, name)),
            make("td", {}, typeOf(member)),
            make("td", {}, (bare.required || []).includes(name) ? "required. " : undefined,
                member.default !== undefined ? `default ${JSON.stringify(member.default)}. ` : undefined,
                words(member.description))));
        parts.push(make("table", {}, make("tbody", {}, rows)));
    }
    for (const name of referencesOf(bare))
        parts.push(drawLater(name, () => drawSchema({ $ref: "#/components/schemas/" + name })));
    return parts;
}

function drawLater(title, draw) {
    const details = make("details", {}, make("summary", {}, title));
    details.addEventListener("toggle", () => {
        if (details.children.length === 1)
            details.append(make("div", { class: "inside" }, draw()));
    });
    return details;
}

/* A body to begin with: the schema's example, or its required members. */
function exampleOf(schema) {
    const bare = resolve(schema);
    if (bare.examples)
        return bare.examples[0];
    if (bare.default !== undefined)
        return bare.default;
    const type = [bare.type].flat()[0];
    if (bare.properties) {
        const required = bare.required || [];
        return Object.fromEntries(required.map(name => [name, exampleOf(bare.properties[name])]));
    }
    if (bare.anyOf || bare.oneOf)
        return exampleOf((bare.anyOf || bare.oneOf)[0]);
    return { string: "", integer: 0, number: 0, boolean: false, array: [], object: {} }[type] ?? null;
}

/* ---- trying it out ---- */

async function send(method, path, inputs, body, output) {
    const query = new URLSearchParams();
    const headers = {};
    for (const { parameter, input } of inputs) {
        const value = input.value;
        if (parameter.in === "path")
            path = path.replace(`{${parameter.name}}`, encodeURIComponent(value));
        else if (value !== "" && parameter.in === "query")
            query.append(parameter.name, value);
        else if (value !== "" && parameter.in === "header")
            headers[parameter.name] = value;
    }
    const address = path + (query.toString() ? "?" + query : "");
    if (body !== undefined)
        headers["Content-Type"] = "application/json";
    output.textContent = "…";
    output.className = "";
    try {
        const began = performance.now();
        const answer = await fetch(address, { method: method.toUpperCase(), headers, body });
        const text = await answer.text();
        const took = (performance.now() - began).toFixed(1);
        let shown = text;
        try {
            shown = JSON.stringify(JSON.parse(text), null, 1);
        } catch { /* not JSON: as it came */ }
        output.className = answer.ok ? "" : "bad";
        output.textContent = `${answer.status} ${answer.statusText}  ${took} ms\n${shown}`;
    } catch (problem) {
        output.className = "bad";
        output.textContent = String(problem);
    }
}

function drawParameters(parameters) {
    return parameters.map(given => {
        const parameter = resolve(given);
        const schema = resolve(parameter.schema);
        const input = make("input", { "aria-label": parameter.name, autocomplete: "off" });
        input.value = kept[parameter.name] ?? (parameter.in === "path" ? schema.default ?? "" : "");
        input.addEventListener("input", () => { kept[parameter.name] = input.value; });
        return { parameter, input, row: make("tr", {},
            make("td", {}, make("code", {}, parameter.name)), make("td", {}, parameter.in),
            make("td", {}, input), make("td", {}, words(parameter.description))) };
    });
}

function drawOperation(method, path, item, operation) {
    const parts = [make("p", {}, words(operation.description))];
    const inputs = drawParameters([...(item.parameters || []), ...(operation.parameters || [])]);
    parts.push(make("table", {}, make("tbody", {}, inputs.map(one => one.row))));
    let text;
    if (operation.requestBody) {
        const schema = operation.requestBody.content["application/json"].schema;
        text = make("textarea", { "aria-label": "body", spellcheck: "false" });
        text.value = JSON.stringify(exampleOf(schema), null, 1);
        parts.push(make("h3", {}, "Body: " + typeOf(schema)), drawSchema(schema), text);
    }
    const output = make("pre", { role: "status" });
    const button = make("button", { type: "button" }, "Send");
    button.addEventListener("click", () => send(method, path, inputs, text && text.value, output));
    parts.push(make("p", {}, button), output, make("h3", {}, "Answers"));
    for (const [status, given] of Object.entries(operation.responses)) {
        const answer = resolve(given);
        const json = answer.content && answer.content["application/json"];
        const title = `${status}: ${json && answer.description === typeOf(json.schema) ? typeOf(json.schema) : answer.description}`;
        parts.push(json ? drawLater(title, () => drawSchema(json.schema)) : make("p", {}, title));
    }
    return parts.flat();
}

/* ---- the page ---- */

function drawAll() {
    const main = document.getElementById("operations");
    document.getElementById("title").textContent = `${source.info.title} ${source.info.version}`;
    document.getElementById("summary").append(...words(source.info.summary + " " + source.info.description));
    let count = 0;
    for (const tag of source.tags) {
        const section = make("section", {}, make("h2", {}, tag.name), make("p", {}, words(tag.description)));
        for (const [path, item] of Object.entries(source.paths)) {
            for (const method of methods.filter(name => item[name] && item[name].tags.includes(tag.name))) {
                const details = drawLater("", () => drawOperation(method, path, item, item[method]));
                details.className = "operation";
                details.id = item[method].operationId;
                details.dataset.words = `${method} ${path} ${details.id} ${item[method].summary}`.toLowerCase();
                details.firstChild.append(make("span", { class: "method" }, method.toUpperCase()), " ",
                    make("span", { class: "path" }, path), make("span", { class: "about" }, item[method].summary));
                section.append(details);
                count++;
            }
        }
        main.append(section);
    }
    document.getElementById("state").textContent = `${count} operations`;
}

function filter(text) {
    for (const details of document.querySelectorAll(".operation"))
        details.hidden = !details.dataset.words.includes(text.toLowerCase());
    for (const section of document.querySelectorAll("section"))
        section.hidden = !section.querySelector(".operation:not([hidden])");
}

function openNamed() {
    const details = document.getElementById(location.hash.slice(1));
    if (details && details.className === "operation") {
        details.open = true;
        details.scrollIntoView();
    }
}

document.getElementById("filter").addEventListener("input", event => filter(event.target.value));
window.addEventListener("hashchange", openNamed);
fetch("../openapi.json").then(answer => answer.json()).then(json => {
    source = json;
    drawAll();
    openNamed();
}).catch(problem => {
    const state = document.getElementById("state");
    state.className = "bad";
    state.textContent = "No description: " + problem;
});
