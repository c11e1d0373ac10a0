#include "digits_cnn.h"

void camera_read_line(float pixels[8]); /* your board: the next line of 8 pixels from 0 to 1 */
void display_digit(int digit);

static void next_row(void *user, int32_t row, float *to) {
    (void)user;
    (void)row; /* 0 to 7, in order: the camera's lines come like that */
    camera_read_line(to);
}

int main(void) {
    static float digit[10];
    for (;;) {
        (void)digits_cnn_run_rows(next_row, NULL, digit);
        int best = 0;
        for (int i = 1; i < 10; i++) best = digit[i] > digit[best] ? i : best;
        display_digit(best);
    }
}
