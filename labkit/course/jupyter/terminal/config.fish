# fish of a terminal of the course, after the learner's own files: a prompt for the lab, and completion.
functions -c fish_prompt labkit_own_prompt
function fish_prompt
    echo -n '(lab) '
    labkit_own_prompt
end
labkit completion fish 2>/dev/null | source
