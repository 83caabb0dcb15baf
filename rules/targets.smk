# What to type after `snakemake`: a step of the method, or a method. `all` is the default.


localrules:
    all,
    teacher,
    scores,
    selection,
    students,
    evaluation,
    table,
    suponly,
    plain,
    st,
    random,
    stpp,


rule teacher:
    input:
        stage_files("train", role="teacher"),
    message:
        "The teachers are there"


rule scores:
    input:
        stage_files("score"),
    message:
        "The stability scores are there"


rule selection:
    input:
        stage_files("select"),
    message:
        "The lists of reliable and unreliable images are there"


rule students:
    input:
        stage_files("train"),
    message:
        "All networks are trained"


rule evaluation:
    input:
        stage_files("evaluate"),
    message:
        "All models are evaluated"


rule table:
    input:
        stage_files("report"),
    message:
        "The table is there"


rule suponly:
    input:
        stage_files(method="suponly"),
    message:
        "All of method suponly is there"


rule plain:
    input:
        stage_files(method="plain"),
    message:
        "All of method plain is there"


rule st:
    input:
        stage_files(method="st"),
    message:
        "All of method st is there"


rule random:
    input:
        stage_files(method="random"),
    message:
        "All of method random is there"


rule stpp:
    input:
        stage_files(method="st++"),
    message:
        "All of method st++ is there"
