/* The largest scales that are allowed, of the optimizer and of a tensor: their product counts as 1e30. What has no gradient and
 * no history stays where it is, not a number comes of nothing. */
#include "problem.h"

static void train(const char *weights_name, double of_optimizer, double of_tensor, double decay, double decay_scale, double ratio,
                  int form, float *parameter, int sparse) {
    static float gradient[40];
    lopt_options options = problem_options();
    lopt_tensor_options tensor;
    lopt_weights *weights;
    lopt_optimizer *opt;
    options.lr_scale = of_optimizer, options.weight_decay = decay, options.max_update_ratio = ratio;
    options.weight_decay_form = form;
    CHECK_OK(lopt_tensor_options_init(&tensor, sizeof tensor));
    tensor.lr_scale = of_tensor, tensor.weight_decay_scale = decay_scale;
    CHECK_OK(lopt_weights_builtin(weights_name, NULL, &weights));
    CHECK_OK(lopt_create(weights, &options, &opt));
    lopt_weights_free(weights);
    CHECK_OK(lopt_add_tensor(opt, "a", parameter, gradient, (int64_t[]){5, 8}, 2, NULL));
    CHECK_OK(lopt_set_tensor_options(opt, 0, &tensor));
    for (int j = 0; j < 40; j++) gradient[j] = sparse && j % 8 == 0 ? 0.1f : 0;
    CHECK_OK(lopt_step(opt));
    lopt_destroy(opt);
}

int main(void) {
    static const char *names[] = {"star", "star-authors-rule"};
    static const double pairs[][2] = {{1e30, 1e30}, {1e30, 1}, {1, 1e30}, {1e20, 1e15}, {1e16, 1e14}};
    for (size_t c = 0; c < 2 * 5 * 2 * 2 * 3; c++) {
        const double *pair = pairs[c / 2 % 5];
        int sparse = c / 10 % 2 == 0, form = (int)(c / 20 % 2), decays = (int)(c / 40);
        const char *name = names[c % 2];
        float found[40] = {0}, expected[40] = {0};
        check_context("%s, scales %g and %g, sparse %d, decay form %d, case %d", name, pair[0], pair[1], sparse, form, decays);
        /* Decay takes all of what there is: 0 stays 0. The scales are those of the step, of the decay, or of both. */
        double lr = decays == 1 ? 1 : pair[0], lr_tensor = decays == 1 ? 1 : pair[1];
        double decay = decays > 0 ? pair[0] : 0, decay_scale = decays > 0 ? pair[1] : 1;
        train(name, lr, lr_tensor, decay, decay_scale, 0, form, found, sparse);
        int moved = 0, wrong = 0;
        for (int j = 0; j < 40; j++) {
            int is_still = !sparse || j % 8 != 0;
            wrong += isnan(found[j]) || (is_still && strcmp(name, "star") == 0 && found[j] != 0);
            moved += found[j] != 0;
        }
        CHECK_INT(wrong, 0);
        if (sparse) CHECK(moved >= 5);
        /* The product is what counts. */
        double lr_product = fmin(lr * lr_tensor, 1e30), decay_product = fmin(decay * decay_scale, 1e30);
        train(name, lr_product, 1, decay_product, 1, 0, form, expected, sparse);
        CHECK_BITS(found, expected, 40);
        /* A guard that has to shrink an update by 1e30 does. */
        memset(found, 0, sizeof found);
        train(name, lr, lr_tensor, decay, decay_scale, 0.5, form, found, sparse);
        double squares = 0;
        for (int j = 0; j < 40; j++) squares += (double)found[j] * found[j];
        CHECK(sqrt(squares / 40) <= 0.5 * 1e-3 * 1.001);
    }
    check_context("");
    return check_end();
}
