# What to type after `snakemake`: a step of the method, or a method. `all` is the default.


localrules:
    all,
    teacher,
    scores,
    selection,
    students,
    evaluation,
    outlook,
    table,
    charts,
    report,


rule teacher:
    input:
        lambda wildcards: GRAPH.files("train", phase=0),
    message:
        "The teachers are there"


rule scores:
    input:
        lambda wildcards: GRAPH.files("score"),
    message:
        "The stability scores are there"


rule selection:
    input:
        lambda wildcards: GRAPH.files("select", "pixels"),
    message:
        "The lists of reliable and unreliable images are there"


rule students:
    input:
        lambda wildcards: GRAPH.files("train"),
    message:
        "All networks are trained"


rule evaluation:
    input:
        lambda wildcards: GRAPH.files("evaluate"),
    message:
        "All models are evaluated"


rule outlook:
    input:
        lambda wildcards: GRAPH.files("outlook"),
    message:
        "The outlook is there"


rule table:
    input:
        lambda wildcards: GRAPH.files("table"),
    message:
        "The table is there"


rule charts:
    input:
        lambda wildcards: GRAPH.files("chart"),
    message:
        "The charts are there"


rule report:
    input:
        lambda wildcards: GRAPH.files("report"),
    message:
        "The report is there"


for method in methods():

    rule:
        name:
            method.target
        input:
            lambda wildcards, method=method: GRAPH.files(method=method.name),
        localrule: True
        message:
            f"All of method {method.name} is there"
