# ST++: semi-supervised semantic segmentation by selective self-training.
#
# A configuration and a data set are expanded into a graph of stages; each stage is one `stpp` command that turns
# files into files; Snakemake runs the graph. Where files go:
#
#   results/data/                   manifests: which image is labeled, unlabeled, val, test
#   results/stages/<stage>/<name>/  the artifacts of each stage; the name ends in the digest of all that decides them
#   results/<config's name>/        what people look at: the model, the table, the charts and the report
#   results/runs/<config's name>/   links to the stages of each run
#
# `snakemake --cores all` runs the demo in config.yaml; `--configfile experiments/X.yaml` runs another configuration.


include: "rules/common.smk"


rule all:
    input:
        lambda wildcards: GRAPH.files(),
    localrule: True
    message:
        f"All stages are done. Look at {RESULTS}/{SETTINGS.name}/report.html"


include: "rules/length.smk"
include: "rules/train.smk"
include: "rules/predict.smk"
include: "rules/score.smk"
include: "rules/select.smk"
include: "rules/pixels.smk"
include: "rules/evaluate.smk"
include: "rules/outlook.smk"
include: "rules/verdict.smk"
include: "rules/table.smk"
include: "rules/report.smk"
include: "rules/chart.smk"
include: "rules/targets.smk"
